"""A profile with converters through the command line: certificate, report and replay."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.cli.main import run

PROFILE = """schema = 1
name = "everything"
source = "made for the test"
[weight]
bits = 8
mapping = "differential"
[device]
bits = 4
tolerance = 0.03
distribution = "truncated_gaussian"
sigma = 0.01
[tile]
rows = 64
columns = 64
[dac]
bits = 8
[adc]
bits = 8
[faults]
stuck_low = 0.01
[drift]
time_seconds = 864000
exponent_mean = 0.005
exponent_sd = 0.001
compensation = "global"
[read_noise]
sigma = 0.005
"""


def _analyze(samples: Path, folder: Path, workers: int) -> Path:
    (folder / "p.toml").write_text(PROFILE)
    out = folder / f"out{workers}"
    arguments = [
        "analyze",
        str(samples / "digits_cnn.onnx"),
        "--data",
        str(samples / "digits_cnn.toml"),
        "--device",
        str(folder / "p.toml"),
    ]
    assert (
        run(
            [
                *arguments,
                "--effort",
                "quick",
                "--trials",
                "20",
                "--limit",
                "40",
                "--workers",
                str(workers),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def out(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _analyze(samples, tmp_path_factory.mktemp("converters"), 2)


@pytest.fixture(scope="module")
def certificate(out: Path) -> dict[str, Any]:
    return json.loads((out / "certificate.json").read_text())


def test_certificate_follows_the_schema_and_explains_the_converters(
    certificate: dict[str, Any],
) -> None:
    jsonschema.Draft202012Validator(CertificateModel.published_schema()).validate(certificate)
    assert len(certificate["converters"]["arrays"]) == len(certificate["mapping"]["layers"])
    assert certificate["converters"]["calibration_samples"] == 256
    assert set(certificate["converters"]["calibration_files"]) == {
        "digits_cnn.toml",
        "digits_train.npz",
    }
    assert {check["id"] for check in certificate["checks"]} >= {
        "ideal_converters",
        "converters_reference",
    }


def test_effects_are_added_in_turn(certificate: dict[str, Any]) -> None:
    rows = certificate["diagnostics"]["effects"]
    assert [row["effect"] for row in rows] == [
        "float weights",
        "quantised weights",
        "converters",
        "read noise",
        "programming",
        "stuck devices",
        "drift",
    ]
    assert rows[0]["mean"] == certificate["clean"]["score"]
    assert rows[1]["mean"] == certificate["clean"]["quantised_score"]
    for before, after in pairwise(rows):
        assert after["change"] == pytest.approx(after["mean"] - before["mean"])


def test_worst_chip_is_scored_through_converters_and_plainly(certificate: dict[str, Any]) -> None:
    assert certificate["worst_found"]["score"] < 0.3
    assert certificate["worst_found"]["replay"]["score"] < 0.3
    assert any("10 days" in row["text"] for row in certificate["assumptions"])
    assert any(
        "so the search and its witness have none" in row for row in certificate["not_covered"]
    )


def test_report_shows_effects_and_converters(out: Path) -> None:
    page = (out / "certificate.html").read_text()
    assert 'id="effects"' in page
    assert 'id="converters"' in page


def test_replay_scores_the_witness_through_the_converters(
    out: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "replay",
        str(out),
        "--model",
        str(samples / "digits_cnn.onnx"),
        "--data",
        str(samples / "digits_cnn.toml"),
        "--json",
    ]
    assert run(arguments) == 0
    checks = {check["id"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["worst_found_converters"]["held"]
    assert checks["worst_found"]["held"]


def test_replay_finds_a_forged_score(
    out: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(out, tmp_path / "forged")
    text = json.loads((tmp_path / "forged" / "certificate.json").read_text())
    text["worst_found"]["score"] += 0.2
    (tmp_path / "forged" / "certificate.json").write_text(json.dumps(text))
    arguments = [
        "replay",
        str(tmp_path / "forged"),
        "--model",
        str(samples / "digits_cnn.onnx"),
        "--data",
        str(samples / "digits_cnn.toml"),
        "--json",
    ]
    assert run(arguments) != 0
    checks = {check["id"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["worst_found_converters"]["held"] is False


def test_workers_change_nothing(
    out: Path, samples: Path, certificate: dict[str, Any], tmp_path: Path
) -> None:
    other = json.loads((_analyze(samples, tmp_path, 3) / "certificate.json").read_text())

    def comparable(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: comparable(entry)
                for key, entry in value.items()
                if key not in ("timings", "seconds", "reproduce")
            }
        return [comparable(entry) for entry in value] if isinstance(value, list) else value

    assert comparable(other) == comparable(certificate)
