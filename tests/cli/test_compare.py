"""Two certificates side by side, on the command line and from Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import cimrobust
from cimrobust.certificate.models.compared_certificates import Comparison
from cimrobust.certificate.schema_files import schema_file
from cimrobust.certificate.score_differences import upper_percentile
from cimrobust.cli.main import run
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.report.comparison_page import render_comparison

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "results").glob("certificate-*.json"))
POLICY = "[require]\nclean_accuracy = 0.9\nworst_found_accuracy = 0.9\n"


@pytest.fixture(scope="module")
def folders(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificates of one network at two tolerances."""
    top = tmp_path_factory.mktemp("compared")
    (top / "policy.toml").write_text(POLICY)
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    for name, tolerance in (("released", 0.03), ("out", 0.2)):
        cimrobust.analyze(
            model,
            data=data,
            out=top / name,
            tolerance=tolerance,
            effort="quick",
            trials=30,
            limit=60,
            diagnostics="none",
            policy=top / "policy.toml",
            workers=1,
        )
    return top / "released", top / "out"


def rows(found: Comparison) -> dict:
    return {row.name: row for row in found.scores}


def test_what_is_equal_and_what_is_not(folders):
    found = cimrobust.compare(*folders)
    same = {row.name: row.equal for row in found.sameness}
    assert found.same_samples
    assert [
        name
        for name in ("network", "data", "samples", "policy", "tool", "machine")
        if not same[name]
    ] == []
    assert (same["device profile"], same["tolerance"], same["setting tolerance"]) == (
        False,
        False,
        False,
    )


def test_requirements_and_layers_that_changed(folders):
    found = cimrobust.compare(*folders)
    changed = {row.id: (row.a, row.b) for row in found.requirements}
    assert changed == {"worst_found_accuracy": ("met", "refuted")}
    assert found.requirements_same == 1
    assert {field for row in found.layers for field in row.fields} == {
        "box_radius",
        "tolerance_fraction",
    }


def test_a_search_result_is_never_beyond_chance_and_certified_samples_are_compared_in_pairs(
    folders,
):
    found = rows(cimrobust.compare(*folders))
    assert found["worst_found"].difference < 0
    assert found["worst_found"].beyond_chance is None
    assert (found["certified"].better, found["certified"].beyond_chance) == ("a", True)
    assert "sign test" in found["certified"].statement


def test_a_certificate_beside_itself_differs_nowhere(folders):
    found = cimrobust.compare(folders[0], folders[0])
    assert all(row.equal for row in found.sameness)
    assert found.requirements == found.layers == []
    assert {(row.difference, row.better, row.beyond_chance) for row in found.scores} == {
        (0.0, None, None)
    }


def test_without_the_tables_less_is_said(folders):
    found = rows(cimrobust.compare(*(folder / "certificate.json" for folder in folders)))
    assert found["certified"].beyond_chance is None
    assert found["kpp_5"].a.high is None


def test_a_table_of_another_certificate_is_not_used(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path / "copy")
    shutil.copy(folders[1] / "certified.parquet", tmp_path / "copy" / "certified.parquet")
    assert rows(cimrobust.compare(tmp_path / "copy", folders[1]))["certified"].beyond_chance is None


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_every_version_can_be_compared(path, folders):
    found = cimrobust.compare(path, folders[0])
    assert found.a.schema_version == ".".join(path.stem.split("-")[1].split(".")[:2])
    assert render_comparison(found).startswith("<!doctype html>")
    jsonschema.validate(found.model_dump(), json.loads(schema_file("comparison").read_text()))


def test_the_page_needs_nothing_and_the_command_prints_its_json(folders, tmp_path, capsys):
    out = tmp_path / "compare.html"
    assert run(["compare", *map(str, folders), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    page = out.read_text()
    assert printed == cimrobust.compare(*folders).model_dump()
    assert page == render_comparison(Comparison.model_validate(printed))
    assert "Content-Security-Policy" in page
    assert page.count("<script") == 1
    assert "http:" not in page.partition("<script")[0]


def test_the_summary_names_what_changed(folders, capsys):
    assert run(["compare", *map(str, folders)]) == 0
    said = capsys.readouterr().out
    assert "requirement worst_found_accuracy: met -> refuted" in said
    assert "different tolerance: 3 %" in said


def test_hostile_names_stay_text(folders, tmp_path):
    values = json.loads((folders[0] / "certificate.json").read_text())
    values["model"]["name"] = values["data"]["description"] = "<script>alert(1)</script>"
    values["mapping"]["layers"][0]["initializer"] = "<img src=x>"
    (tmp_path / "certificate.json").write_text(json.dumps(values))
    page = render_comparison(cimrobust.compare(tmp_path / "certificate.json", folders[1]))
    assert page.count("<script") == 1
    assert "<img" not in page


def test_what_is_no_certificate_is_refused(tmp_path):
    with pytest.raises(InputRefusedError, match=r"must be a readable file"):
        cimrobust.compare(tmp_path / "nothing", tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(
        UsageError, match="compare must have the folder of a certificate, got that of a sweep"
    ):
        cimrobust.compare(tmp_path, tmp_path)


@pytest.mark.parametrize("higher", [True, False])
def test_the_bound_on_the_other_side_of_a_percentile_holds(higher):
    """Over many tables of 60 trials the bound is on the wrong side in 5 % at most; 400 tables,
    false alarm below 1e-6 at 12 %.
    """
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        value = generator.normal(size=60)
        table = TrialTable(np.arange(60), value, None, 1, 0, "rmse", higher)
        bound, truth = (
            upper_percentile(table, 10.0),
            (-1.2815515655446004 if higher else 1.2815515655446004),
        )
        wrong += bound < truth if higher else bound > truth
    assert wrong <= 0.12 * 400
