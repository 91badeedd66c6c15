"""`replay --cluster`: the same checks as in one process, and workers that fail refute nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cimrobust.cli.main import run
from cimrobust.review import reviewers_workers

FEW = ["--limit", "20", "--effort", "quick", "--trials", "30", "--workers", "1"]


def of_sample(samples: Path) -> list[str]:
    name = samples / "breast_cancer_mlp"
    return [f"{name}.onnx", "--data", f"{name}.toml"]


@pytest.fixture(scope="module")
def certificate(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("certificate")
    few = [*FEW, "--diagnostics", "none", "--out", str(out)]
    assert run(["analyze", *of_sample(samples), *few]) == 0
    return out


def replayed(
    folder: Path, subject: list[str], capsys: pytest.CaptureFixture[str], *more: str
) -> list[dict[str, Any]]:
    """Return the checks of a replay with one seed of the reviewer's."""
    capsys.readouterr()
    arguments = ["--model", *subject, "--reviewer-seed", "4", "--redraw", "6"]
    assert run(["replay", str(folder), *arguments, "--workers", "1", "--json", *more]) == 0
    checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert not any(check["held"] is False for check in checks)
    return checks


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Record what workers are asked to do."""
    tasks: set[str] = set()
    work = reviewers_workers._Apart.map_ordered

    def recorded(self: Any, task: Any, items: Any) -> Any:
        tasks.add(type(getattr(task, "task", task)).__name__)
        return work(self, task, items)

    monkeypatch.setattr(reviewers_workers._Apart, "map_ordered", recorded)
    return tasks


def test_a_certificate_is_replayed_by_processes_as_by_threads(
    certificate: Path, samples: Path, capsys: pytest.CaptureFixture[str], spread: set[str]
) -> None:
    expected = replayed(certificate, of_sample(samples), capsys, "--rerun")
    assert not spread
    found = replayed(certificate, of_sample(samples), capsys, "--rerun", "--cluster", "processes:2")
    assert found == expected
    assert spread == {"ScoreTrials", "ScoreWithEffects", "BoundBatches"}
    held = {check["id"]: check["held"] for check in found}
    assert held["redrawn_trials"] is held["derived certified"] is held["rerun certified"] is True


def test_a_sweep_is_replayed_by_processes_as_by_threads(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spread: set[str]
) -> None:
    swept = ["sweep", *of_sample(samples), *FEW, "--tolerances", "0.005,0.02", "--witnesses"]
    assert run([*swept, "--out", str(tmp_path)]) == 0
    expected = replayed(tmp_path, of_sample(samples), capsys)
    assert replayed(tmp_path, of_sample(samples), capsys, "--cluster", "processes:2") == expected
    assert {"ScoreTrials", "BoundBatches"} <= spread


def test_labels_of_another_network_reach_the_workers(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.load(samples / "breast_cancer_test.npz")["x"][:20]
    np.savez(tmp_path / "x.npz", x=x)
    (tmp_path / "self.toml").write_text(
        'schema = 1\nfile = "x.npz"\n[[input]]\nname = "measurements"\narray = "x"\n'
        '[label]\nself = true\n[decision]\noutput = "benign_score"\nread = "threshold"\n'
        'value = 0\nmetric = "accuracy"\n'
    )
    network = str(samples / "breast_cancer_mlp.onnx")
    subject, teacher = [network, "--data", str(tmp_path / "self.toml")], ["--labels-of", network]
    skipped = ["--skip", "effects", "--skip", "certify", "--diagnostics", "none"]
    out = tmp_path / "out"
    assert run(["analyze", *subject, *FEW, *teacher, *skipped, "--out", str(out)]) == 0
    expected = replayed(out, subject, capsys, *teacher)
    found = replayed(out, subject, capsys, *teacher, "--cluster", "processes:1")
    assert found == expected
    assert {check["id"]: check["held"] for check in found}["redrawn_trials"] is True


def test_workers_that_fail_refute_nothing(
    certificate: Path,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = reviewers_workers.OpenedFromResult.__init__

    def wrong(self: Any, **given: Any) -> None:
        right(self, **{**given, "identity": {**given["identity"], "samples": "others"}})

    monkeypatch.setattr(reviewers_workers.OpenedFromResult, "__init__", wrong)
    arguments = ["--model", *of_sample(samples), "--cluster", "processes:1"]
    assert run(["replay", str(certificate), *arguments]) == 2
    printed = capsys.readouterr()
    assert "worker must see the files of the coordinator, got other samples" in printed.err
    assert "REFUTED" not in printed.out
