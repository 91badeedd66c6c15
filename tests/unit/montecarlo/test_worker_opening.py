"""What a worker opens is what the coordinator has opened, or it refuses to work."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.user_code import code_allowed, is_code_allowed
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.engine.watchdog import current_time_limit, time_limit
from cimrobust.errors import CimrobustError, UsageError
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.trials import ScoreTrials
from cimrobust.montecarlo.worker_opening import OpenedByName, recipe_of
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.run import Run
from cimrobust.settings.subject_settings import SubjectSettings

RUN = Run(seed=3)


def open_named(named: SubjectSettings) -> tuple[Subject, OpenedByName]:
    """Open a subject, and return it with what a worker is sent."""
    inspection = inspect_subject(named)
    subject = Subject(open_subject(named, inspection, workers=1), inspection.placement)
    recipe = recipe_of(named, subject, RUN, identity_of(subject.runtime, subject.placement, 3))
    received = pickle.loads(pickle.dumps(recipe))
    assert isinstance(received, OpenedByName)
    return subject, received


def self_labelled(folder: Path, samples: Path) -> Path:
    x = np.load(samples / "breast_cancer_test.npz")["x"][:12]
    np.savez(folder / "x.npz", x=x)
    file = folder / "self.toml"
    file.write_text(
        'schema = 1\nfile = "x.npz"\n[[input]]\nname = "measurements"\narray = "x"\n'
        '[label]\nself = true\n[decision]\noutput = "benign_score"\nread = "threshold"\n'
        'value = 0\nmetric = "accuracy"\n'
    )
    return file


@pytest.mark.parametrize("device", ["rram-write-verify-3pct", "isaac-like-8bit"])
def test_a_worker_scores_chips_as_the_coordinator(samples: Path, device: str) -> None:
    subject, recipe = open_named(
        SubjectSettings(
            samples / "breast_cancer_mlp.onnx",
            samples / "breast_cancer_mlp.toml",
            device=device,
            limit=30,
        )
    )
    score, again = ScoreTrials(3).on(subject), ScoreTrials(3).on(recipe.open())
    assert [again(trial) for trial in range(3)] == [score(trial) for trial in range(3)]


def test_a_worker_runs_the_network_for_trials_alone(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = SubjectSettings(
        samples / "digits_cnn.onnx", samples / "digits_cnn.toml", limit=8, tolerance=0.1
    )
    subject, recipe = open_named(named)
    monkeypatch.setattr(Runtime, "outputs", lambda *_, **__: pytest.fail("the network was run"))
    monkeypatch.setattr(
        "cimrobust.engine.ort.OrtEngine.open", lambda *_: pytest.fail("a session was opened")
    )
    opened = recipe.open()
    assert opened.runtime.quantised == subject.runtime.quantised
    assert opened.runtime.checks == subject.runtime.checks


def test_labels_of_the_model_itself_are_sent_along(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    self_labelled(tmp_path, samples)
    subject, recipe = open_named(SubjectSettings(samples / "breast_cancer_mlp.onnx", "self.toml"))
    monkeypatch.chdir("/")
    opened = recipe.open()
    assert ScoreTrials(3).on(opened)(0) == ScoreTrials(3).on(subject)(0)


def test_a_worker_that_sees_other_samples_refuses_to_work(samples: Path, tmp_path: Path) -> None:
    data = self_labelled(tmp_path, samples)
    _, recipe = open_named(SubjectSettings(samples / "breast_cancer_mlp.onnx", data))
    x = np.load(samples / "breast_cancer_test.npz")["x"]
    np.savez(tmp_path / "x.npz", x=x[1:13])
    with pytest.raises(UsageError, match="files of the coordinator, got other samples or labels"):
        recipe.open()


def test_a_worker_that_does_not_see_a_file_says_which(samples: Path, tmp_path: Path) -> None:
    data = self_labelled(tmp_path, samples)
    _, recipe = open_named(SubjectSettings(samples / "breast_cancer_mlp.onnx", data))
    data.unlink()
    with pytest.raises(CimrobustError, match=r"self\.toml"):
        recipe.open()


def test_a_worker_runs_code_only_where_the_coordinator_may(samples: Path, tmp_path: Path) -> None:
    data = self_labelled(tmp_path, samples)
    named = SubjectSettings(samples / "breast_cancer_mlp.onnx", data)
    assert not open_named(named)[1].allows_code
    with code_allowed():
        assert open_named(named)[1].allows_code
    assert not is_code_allowed()


def test_a_worker_gives_a_run_as_long_as_the_coordinator(samples: Path, tmp_path: Path) -> None:
    data = self_labelled(tmp_path, samples)
    with time_limit(123.0):
        _, recipe = open_named(SubjectSettings(samples / "breast_cancer_mlp.onnx", data))
    assert recipe.time_limit == 123.0
    with time_limit(current_time_limit()):
        recipe.open()
        assert current_time_limit() == 123.0


def test_files_are_named_from_any_folder_and_functions_as_they_are(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = self_labelled(tmp_path, samples)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.npz").write_bytes(b"")
    subject, recipe = open_named(SubjectSettings(samples / "breast_cancer_mlp.onnx", data))
    assert recipe.named.calibration is None
    relative = replace(recipe.named, model="m.onnx", data="self.toml", calibration="more.npz")
    identity = identity_of(subject.runtime, subject.placement, 3)
    sent = recipe_of(relative, subject, RUN, identity).named
    assert sent.model == str(tmp_path / "m.onnx")
    assert (sent.data, sent.calibration) == (str(data), str(tmp_path / "more.npz"))
    loaded = recipe_of(replace(relative, data="loader:samples"), subject, RUN, identity).named
    assert loaded.data == "loader:samples"
