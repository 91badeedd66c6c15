"""Public functions with what Python users have: models, arrays, dictionaries and certificates."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import cimrobust
from cimrobust.errors import EvidenceRefutedError
from cimrobust.review.page_again import rewrite_report
from tests.in_memory import DEVICE, MODEL, QUICK, X, Y

POLICY = {"require": {"certified_accuracy": 0.5}}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.glob("cimrobust-in-memory-*"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> cimrobust.Certificate:
    """A certificate of a model, data and a policy in memory."""
    out = tmp_path_factory.mktemp("certificate") / "out"
    return cimrobust.analyze(MODEL, data=(X, Y), out=out, policy=POLICY, **QUICK)


def test_certificate_says_what_came_from_memory(certificate: cimrobust.Certificate) -> None:
    settings = {row.key: row.value for row in certificate.record.settings}
    assert [file.name for file in certificate.model.files] == ["model-in-memory.onnx"]
    assert list(certificate.record.data.files) == ["data-in-memory.npz"]
    assert settings["policy"] == "policy-in-memory.toml"
    assert "cimrobust-in-memory-" not in (certificate.directory / "certificate.json").read_text()
    assert certificate.verdict.word == "PASS_CERTIFIED"


def test_files_give_the_same_numbers(certificate: cimrobust.Certificate, tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    other = cimrobust.analyze(
        tmp_path / "m.onnx", data=tmp_path / "d.npz", out=tmp_path / "out", **QUICK
    )
    assert other.monte_carlo == certificate.monte_carlo
    assert other.worst_found.score == certificate.worst_found.score
    assert other.model.files[0].sha256 == certificate.model.files[0].sha256


def test_certificate_stands_for_its_folder(certificate: cimrobust.Certificate) -> None:
    judged = cimrobust.gate(certificate, policy=POLICY, model=MODEL, data=(X, Y))
    assert (judged.exit_code, judged.policy.name) == (0, "policy-in-memory.toml")
    compared = cimrobust.compare(certificate, certificate)
    assert compared.same_samples
    assert rewrite_report(certificate) == [certificate.html]
    beside = cimrobust.gate(certificate, policy=POLICY, baseline=certificate, no_worse_than=0.0)
    assert beside.exit_code == 0


def test_replay_with_what_was_given(certificate: cimrobust.Certificate) -> None:
    checks = cimrobust.replay(
        certificate, model=MODEL, data=(X, Y), policy=POLICY, redraw=2, reviewer_seed=1, workers=1
    )
    assert {check.id: check.detail for check in checks if check.held is False} == {}
    assert {"model_hash", "data_hash"} <= {check.id for check in checks if check.held}


def test_other_arrays_are_other_data(certificate: cimrobust.Certificate) -> None:
    with pytest.raises(EvidenceRefutedError, match=r"data-in-memory\.npz"):
        cimrobust.gate(certificate, policy=POLICY, data=(X, 1 - Y))


def test_module_of_torch(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.5], [-1.0, -0.5]]))
        network.bias.zero_()
    made = cimrobust.analyze(
        network,
        data={"x": X, "y": Y},
        out=tmp_path / "out",
        example_input=torch.zeros(1, 2),
        **QUICK,
    )
    assert made.clean.score == 1.0
    assert made.model.files[0].name == "model-in-memory.onnx"


def test_other_functions(tmp_path: Path) -> None:
    swept = cimrobust.sweep(
        MODEL, data=(X, Y), out=tmp_path / "swept", tolerances=[0.01, 0.03], **QUICK
    )
    assert swept.record.model.name == "model-in-memory.onnx"
    found = cimrobust.suggest(MODEL, data=(X, Y), policy=POLICY, effort="quick", workers=1)
    assert found.found
    assert "cimrobust-in-memory-" not in str(found.data)
    written = cimrobust.rewrite(MODEL, device=DEVICE, out=tmp_path / "rewritten.onnx")
    assert written.path.exists()
    ranked = cimrobust.verify(
        MODEL, data=(X, Y), out=tmp_path / "list.parquet", effort="quick", workers=1
    )
    assert ranked["model"] == "model-in-memory.onnx"


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    made = cimrobust.analyze(
        MODEL,
        data=(X.astype(np.float64), Y),
        out=tmp_path / "out",
        **QUICK | {"trials": np.int64(5), "tolerance": np.float32(0.25)},
    )
    settings = {row.key: row.value for row in made.record.settings}
    assert (settings["trials"], settings["tolerance"]) == (5, 0.25)


def test_retraining_with_arrays(samples: Path, tmp_path: Path) -> None:
    stored = np.load(samples / "breast_cancer_train.npz")
    model, data = onnx.load(samples / "breast_cancer_mlp.onnx"), samples / "breast_cancer_mlp.toml"
    made = cimrobust.retrain(
        model,
        data=data,
        train_data=(stored["x"], stored["y"]),
        out=tmp_path / "out",
        epochs=1,
        limit=20,
        control=False,
        **QUICK,
    )
    assert "train-data-in-memory.npz" in made.record.splits.training_files
    assert made.record.model == "model-in-memory.onnx"
    assert made.model.exists()


def test_rare_failures_of_arrays() -> None:
    estimated = cimrobust.rare(
        MODEL,
        data=(X, Y),
        below=0.5,
        effort="quick",
        workers=1,
        budget=200,
        particles=50,
        skip_most_probable=True,
    )
    assert estimated["decisions"] == len(Y)
