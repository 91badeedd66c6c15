"""Sweeps through the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest

from cimrobust.certificate.manifest import manifest_problems, read_manifest
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.published_schemas import described_schema
from cimrobust.certificate.schema_files import schema_file
from cimrobust.cli.main import run
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.pipeline import sweep as module
from cimrobust.report.sweep_page import render_sweep
from cimrobust.tolerance_sweep import sweep_tolerances as swept_search
from tests.cli.printed import check_printed

GRID = "0.05,0.2,0.1"
MORE = ["--trials", "300", "--limit", "80", "--require", "0.9", "--workers", "1"]


def arguments(samples: Path, out: Path, *more: str) -> list[str]:
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    return ["sweep", model, "--data", data, "--tolerances", GRID, "--out", str(out), *MORE, *more]


@pytest.fixture(scope="module")
def swept(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept") / "out"
    assert run(arguments(samples, out, "--witnesses")) == 0
    return out


def sweep_of(folder: Path) -> dict:
    return json.loads((folder / "sweep.json").read_text())


def without_times(sweep: dict) -> dict:
    return {
        key: value for key, value in sweep.items() if key not in ("timings", "settings", "command")
    }


def test_the_sweep_follows_its_published_schema(swept):
    published = json.loads(schema_file("sweep").read_text())
    assert published == described_schema(SweepModel), (
        "write it again: python -m cimrobust.certificate.published_schemas"
    )
    jsonschema.Draft202012Validator(published).validate(sweep_of(swept))


def test_the_manifest_has_every_file(swept):
    assert manifest_problems(swept) == []
    assert {"sweep.json", "sweep.html", "witness/0.05/worst_case.onnx"} <= {
        file.path for file in read_manifest(swept).files
    }


def test_tolerances_are_sorted_and_scores_fall(swept):
    points = sweep_of(swept)["points"]
    assert [point["tolerance"] for point in points] == [0.05, 0.1, 0.2]
    scores = [point["worst_found"]["score"] for point in points]
    assert scores == sorted(scores, reverse=True)
    assert all(point["certified"]["score"] <= point["worst_found"]["score"] for point in points)


def test_the_three_claims_are_kept_apart(swept):
    safe = sweep_of(swept)["safe"]
    assert safe["certified"]["tolerance"] <= safe["unrefuted"]["tolerance"]
    assert "by proof" in safe["certified"]["statement"]
    assert "others may" in safe["unrefuted"]["statement"]
    assert "confidence" in safe["statistical"]["statement"]
    assert safe["statistical"]["fresh_trials"] == 368


def test_witnesses_replay_in_onnxruntime_alone(swept, samples):
    data = np.load(samples / "breast_cancer_test.npz")
    for point in sweep_of(swept)["points"]:
        name = next(
            name for name in point["worst_found"]["witness"] if name.endswith("worst_case.onnx")
        )
        session = onnxruntime.InferenceSession(str(swept / name))
        output = session.run(["benign_score"], {"measurements": data["x"][:80].astype(np.float32)})[
            0
        ]
        right = int(((output.ravel() > 0) == data["y"][:80]).sum())
        assert right == point["worst_found"]["correct"]


def test_the_page_is_a_function_of_the_json(swept):
    page = (swept / "sweep.html").read_text()
    assert page == render_sweep(SweepModel.model_validate(sweep_of(swept)))
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_an_interrupted_sweep_goes_on_to_the_same_result(swept, samples, tmp_path, monkeypatch):
    def interrupt(*_arguments, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_proofs", interrupt)
        assert run(arguments(samples, tmp_path)) == 130
    assert not (tmp_path / "sweep.json").exists()
    real = swept_search.search

    def counted(subject, run, **more):
        searched.append(round(tolerance_fraction(subject.placement.profile), 6))
        return real(subject, run, **more)

    searched: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(swept_search, "search", counted)
        assert run(arguments(samples, tmp_path, "--witnesses", "--resume", "--json")) == 0
    assert not {0.05, 0.1, 0.2} & set(searched), (
        "finished searches are taken from the interrupted run"
    )
    assert json.dumps(without_times(sweep_of(tmp_path))) == json.dumps(
        without_times(sweep_of(swept))
    )
    assert (tmp_path / "sweep.html").exists()
    assert not (tmp_path / ".resume-sweep").exists()
    assert manifest_problems(tmp_path) == []


def test_the_summary_is_json_alone(samples, tmp_path, capsys):
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    more = ["--tolerances", "0.01", "--trials", "3", "--limit", "30", "--json"]
    assert run(["sweep", model, "--data", data, "--out", str(tmp_path), *more]) == 0
    found = check_printed("sweep-output", capsys.readouterr().out)
    assert found["points"][0]["tolerance"] == 0.01
    assert found["largest_safe_tolerance"] is None


@pytest.mark.parametrize("tolerances", ["", "0.1,two", "0", "1.5"])
def test_wrong_tolerances_are_refused(samples, tmp_path, capsys, tolerances):
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    assert (
        run(["sweep", model, "--data", data, "--tolerances", tolerances, "--out", str(tmp_path)])
        == 2
    )
    assert "tolerances" in capsys.readouterr().err
