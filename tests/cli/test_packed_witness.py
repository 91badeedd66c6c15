"""Witnesses of large networks: no devices, and tables in place of what follows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from cimrobust.cli.main import run
from cimrobust.mapping import pattern_file


@pytest.fixture(scope="module")
def packed(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a certificate of what is taken for a large network."""
    out = tmp_path_factory.mktemp("packed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern_file, "_WHOLE_UP_TO", 0)
        assert run(_arguments(samples, out)) == 0
    return out


def _arguments(samples: Path, out: Path) -> list[str]:
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    named = ["--diagnostics", "none", "--effort", "quick", "--trials", "5", "--limit", "40"]
    return ["analyze", model, "--data", data, *named, "--out", str(out)]


def test_the_witness_is_two_files_and_few_bytes(packed):
    names = {"worst_case.onnx", "deviations.safetensors"}
    assert {path.name for path in (packed / "witness").iterdir()} == names
    assert any(key.endswith(".code") for key in load_file(packed / "witness" / min(names)))
    certificate = json.loads((packed / "certificate.json").read_text())
    check = next(check for check in certificate["checks"] if check["id"] == "witness_devices")
    assert check["held"]


def test_replay_derives_all_of_it_again(packed, samples, capsys, monkeypatch):
    monkeypatch.setattr(pattern_file, "_WHOLE_UP_TO", 0)
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    assert run(["replay", str(packed), "--model", model, "--data", data, "--json"]) == 0
    checks = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    derived = {"witness_in_box", "witness_nominal", "witness_lo", "witness_hi"}
    assert {name for name in derived if checks[name]} == derived
    assert checks["witness_devices"] is None


def test_a_gate_takes_it_and_refuses_another_table(packed, tmp_path, capsys):
    (tmp_path / "policy.toml").write_text("[require]\nworst_found_accuracy = 1\n")
    gate = ["gate", "--policy", str(tmp_path / "policy.toml")]
    assert run([*gate, str(packed)]) == 1
    folder = Path(shutil.copytree(packed, tmp_path / "out"))
    tensors = load_file(folder / "witness" / "deviations.safetensors")
    key = next(key for key in tensors if key.endswith(".table"))
    tensors[key][:, 2] += 1.0
    save_file(tensors, folder / "witness" / "deviations.safetensors")
    capsys.readouterr()
    assert run([*gate, str(folder)]) == 6
    assert "witness/deviations.safetensors" in capsys.readouterr().err


def test_the_python_of_the_certificate_checks_it(packed, monkeypatch):
    monkeypatch.chdir(packed)
    code = json.loads((packed / "certificate.json").read_text())["reproduce"]["witness_check"]
    names: dict[str, object] = {}
    exec(code, names)
    assert names["session"]
    with pytest.raises(AssertionError):
        exec(code.replace("where(place == 1, lo", "where(place == 1, 2 * lo"), {})


def test_the_next_analysis_starts_from_it_by_the_name_of_its_file(packed, samples, tmp_path):
    out = tmp_path / "out"
    assert run([*_arguments(samples, out), "--transfer", str(packed / "certificate.json")]) == 0
    certificate = json.loads((out / "certificate.json").read_text())
    members = [member["name"] for member in certificate["worst_found"]["members"]]
    assert "transferred_witness" in members
