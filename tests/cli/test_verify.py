"""`cimrobust verify`: the table, the list of devices, and its place in a certificate."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

import cimrobust
from cimrobust.cli.main import run
from tests.cli.printed import check_printed


@pytest.fixture
def arguments(samples, tmp_path) -> list[str]:
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    return [
        "verify",
        model,
        "--data",
        data,
        "--tolerance",
        "0.1",
        "--limit",
        "80",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "list.parquet"),
    ]


def test_the_list_holds_as_many_devices_as_the_largest_share(arguments, tmp_path, capsys):
    assert run([*arguments, "--shares", "0.1", "--json"]) == 0
    found = check_printed("verify-output", capsys.readouterr().out)
    table = pq.read_table(tmp_path / "list.parquet")
    assert found["total_devices"] == 5952
    assert found["listed_devices"] == table.num_rows == 595
    assert table.column("rank").to_pylist() == list(range(1, 596))
    assert table.schema.metadata[b"ranking"].decode() == found["best_ranking"]
    assert {row["ranking"] for row in found["rows"]} == {
        "worst_case",
        "gain",
        "second_derivative",
        "magnitude",
        "slice",
        "random",
    }
    assert all(row["score"] >= found["worst_found"] for row in found["rows"]), (
        "a smaller box holds no worse chip than was found in it"
    )


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--shares", "0.2,0.1"], "ascending numbers in (0, 1]"),
        (["--shares", "few"], "numbers separated by commas"),
        (["--tighter", "0.5"], "tighter must be finite and above 1, got 0.5"),
        (["--write-sigma", "0"], "write-sigma must be finite and above 0, got 0.0"),
        (["--out", "/nowhere/at/all/list.parquet"], "folder of the list must exist"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(arguments, capsys, extra, said):
    assert run([*arguments, *extra]) == 2
    assert said in capsys.readouterr().err


def test_stuck_devices_and_verification_are_in_the_certificate(samples, tmp_path):
    model, data = samples / "breast_cancer_mlp.onnx", samples / "breast_cancer_mlp.toml"
    made = cimrobust.analyze(
        model,
        data=data,
        out=tmp_path / "out",
        tolerance=0.1,
        limit=40,
        trials=5,
        effort="quick",
        workers=1,
        diagnostics="stuck_devices,write_verify",
    )
    found = made.data["diagnostics"]
    assert [curve["base"] for curve in found["stuck_devices"]["curves"]] == [
        made.data["clean"]["quantised_score"],
        made.data["worst_found"]["score"],
    ]
    assert {row["share"] for row in found["write_verify"]["rows"]} == {0.05, 0.2}
    html = made.html.read_text(encoding="utf-8")
    assert "Devices to verify more tightly" in html
    assert "all other devices as in the worst pattern found" in html.lower()
    assert [cost["name"] for cost in found["costs"]] == ["stuck_devices", "write_verify"]
