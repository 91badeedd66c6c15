"""Diagnostics through the command line: what is written, replayed and judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from cimrobust.cli.main import run

ARGUMENTS = ["--effort", "quick", "--trials", "5", "--limit", "150"]


@pytest.fixture(scope="module")
def diagnosed(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of a small network with all diagnostics and a policy that names a safety class."""  # noqa: E501
    folder = tmp_path_factory.mktemp("diagnosed")
    (folder / "policy.toml").write_text("[require]\nsafety_class = { label = 1, recall = 0.99 }\n")
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    more = [
        "--diagnostics",
        "all",
        "--policy",
        str(folder / "policy.toml"),
        "--out",
        str(folder / "out"),
        "--workers",
        "1",
    ]
    assert run(["analyze", model, "--data", data, *ARGUMENTS, *more]) == 0
    return folder


def certificate_of(folder: Path) -> dict:
    return json.loads((folder / "out" / "certificate.json").read_text())


def test_the_policy_names_the_safety_class(diagnosed):
    certificate = certificate_of(diagnosed)
    found = certificate["diagnostics"]["safety_class"]
    assert found["label"] == 1
    assert found["recall"] == found["correct"] / found["samples"] < 0.99
    assert certificate["verdict"]["word"] == "FAIL"
    tensors = load_file(diagnosed / "out" / "witness" / "safety_class.safetensors")
    assert {key.rsplit(".", 1)[1] for key in tensors} == {"nominal", "lo", "hi", "deviation"}


def test_gate_fails_on_the_safety_class(diagnosed, capsys):
    assert run(["gate", str(diagnosed / "out"), "--policy", str(diagnosed / "policy.toml")]) == 1
    assert "safety_class.safetensors" in capsys.readouterr().out


def test_the_verdict_box_shows_its_recall(diagnosed):
    page = (diagnosed / "out" / "certificate.html").read_text()
    box = page[page.index('<section class="verdict') : page.index("</section>")]
    assert 'data-json-path="diagnostics.safety_class.recall"' in box


def test_replay_runs_its_witness_again(diagnosed, samples, capsys):
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    assert run(["replay", str(diagnosed / "out"), "--model", model, "--data", data, "--json"]) == 0
    checks = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    assert checks["safety_class"] is True
    assert checks["safety_class_in_box"] is True


@pytest.mark.parametrize("tampering", ["recall", "witness"])
def test_replay_catches_tampering(diagnosed, samples, tmp_path, tampering):
    shutil.copytree(diagnosed / "out", tmp_path / "out")
    if tampering == "recall":
        changed = certificate_of(diagnosed)
        changed["diagnostics"]["safety_class"]["recall"] += 0.01
        (tmp_path / "out" / "certificate.json").write_text(json.dumps(changed))
    else:
        witness = tmp_path / "out" / "witness"
        shutil.copy(witness / "deviations.safetensors", witness / "safety_class.safetensors")
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    assert run(["replay", str(tmp_path / "out"), "--model", model, "--data", data]) == 6


def test_every_diagnostic_is_there_or_says_why(diagnosed):
    found = certificate_of(diagnosed)["diagnostics"]
    for name in [key.removesuffix("_reason") for key in found if key.endswith("_reason")]:
        assert (found[name] is None) != (found[f"{name}_reason"] is None), name
    assert {row["name"] for row in found["costs"]} == {
        key for key in found if key not in ("effects", "costs") and isinstance(found[key], dict)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--diagnostics", "layer"], "diagnostics must be"),
        (["--safety-class", "7"], "safety class must be a class with samples"),
    ],
)
def test_wrong_use_is_named(samples, tmp_path, capsys, arguments, message):
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    assert (
        run(["analyze", model, "--data", data, *ARGUMENTS, "--out", str(tmp_path), *arguments]) == 2
    )
    assert message in capsys.readouterr().err


def test_diagnostics_go_through_the_converters_of_the_profile(samples, tmp_path):
    model, data = str(samples / "breast_cancer_mlp.onnx"), str(samples / "breast_cancer_mlp.toml")
    more = [
        "--device",
        "isaac-like-8bit",
        "--diagnostics",
        "tolerance_curve,fragile_inputs",
        "--out",
        str(tmp_path / "out"),
    ]
    assert (
        run(
            [
                "analyze",
                model,
                "--data",
                data,
                "--effort",
                "quick",
                "--trials",
                "2",
                "--limit",
                "24",
                *more,
            ]
        )
        == 0
    )
    certificate = certificate_of(tmp_path)
    found = certificate["diagnostics"]
    points = found["tolerance_curve"]["points"]
    assert points[3]["score"] == certificate["worst_found"]["score"], (
        "at the stated tolerance: the same chip, the same engine"
    )
    assert [point["score"] for point in points] == sorted(
        (point["score"] for point in points), reverse=True
    )
    assert "converters" in found["fragile_inputs"]["bound_reason"]
