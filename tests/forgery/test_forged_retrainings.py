"""Forged re-trainings: outcomes, verdicts and controls that the certificates do not say, and
certificates that changed places.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import cimrobust
from cimrobust import TrainingSettings
from cimrobust.certificate.certificate_files import canonical_json, read_certificate
from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.result_names import RETRAINING
from cimrobust.certificate.retrained_record import outcome_of
from cimrobust.cli.main import run
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.report.render import render_retraining
from cimrobust.review import replaying, retrain_replay
from tests.forgery.conftest import Forged


@dataclass(frozen=True)
class ForgedRetraining:
    """A re-training in a forger's hands."""

    folder: Path

    @property
    def plain(self) -> dict[str, Any]:
        """The re-training as plain values."""
        values: dict[str, Any] = json.loads((self.folder / "retrain.json").read_text())
        return values

    def write(self, values: dict[str, Any]) -> None:
        """Write a re-training whose digests and page follow from its numbers."""
        values["files"] = {name: sha256_of(self.folder / name) for name in values["files"]}
        made = Retraining.model_validate(values)
        (self.folder / "retrain.json").write_text(canonical_json(made))
        (self.folder / "retrain.html").write_text(render_retraining(made))
        write_manifest(self.folder)


@pytest.fixture(scope="module")
def genuine(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine re-training of one epoch."""
    out = tmp_path_factory.mktemp("retrained") / "out"
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    cimrobust.retrain(
        model,
        data=data,
        out=out,
        method="noise",
        settings=TrainingSettings(epochs=1, learning_rate=1e-3, search_passes=2, draws=2),
        tolerance=0.1,
        effort="quick",
        trials=12,
        limit=40,
        diagnostics="none",
        workers=1,
    )
    return out


@pytest.fixture
def forged(genuine: Path, tmp_path: Path) -> ForgedRetraining:
    """A copy that may be forged."""
    shutil.copytree(genuine, tmp_path / "forged")
    return ForgedRetraining(tmp_path / "forged")


def outcome_score(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["after"]["worst_found"] = 1.0
    forged.write(values)


def outcome_verdict(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["after"]["verdict"] = "PASS_CERTIFIED"
    forged.write(values)


def swapped_folders(forged: ForgedRetraining) -> None:
    """The network before training as that after it, where training did harm."""
    values = forged.plain
    (forged.folder / "before").rename(forged.folder / "middle")
    (forged.folder / "after").rename(forged.folder / "before")
    (forged.folder / "middle").rename(forged.folder / "after")
    for role in ("before", "after"):
        values[role] = outcome_of(read_certificate(forged.folder / role), role).model_dump()
    forged.write(values)


def another_folder(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["after"]["folder"] = "before"
    forged.write(values)


def worse_control(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["control_outcome"].update(worst_found=0.1, mean=0.5)
    forged.write(values)


def certificate_of_the_control(forged: ForgedRetraining) -> None:
    """The control's certificate says what the outcome says, both forged."""
    values, inner = forged.plain, Forged(forged.folder / "control")
    certificate = inner.plain
    worst = certificate["worst_found"]
    worst.update(score=1 / worst["samples"], correct=1)
    inner.write(certificate)
    values["control_outcome"] = outcome_of(read_certificate(inner.folder), "control").model_dump()
    forged.write(values)


def without_the_control(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["control_outcome"] = None
    forged.write(values)


def another_network(forged: ForgedRetraining) -> None:
    """A network that nobody certified lies where the re-trained one should."""
    shutil.copy(forged.folder / "control" / "model.onnx", forged.folder / "model.onnx")
    forged.write(forged.plain)


def better_epochs(forged: ForgedRetraining) -> None:
    values = forged.plain
    for row in values["training"]["epochs"]:
        row["attacked"] = 1.0
    forged.write(values)


def easier_devices(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["tolerance"] = 0.2
    forged.write(values)


def worse_plain_step(forged: ForgedRetraining) -> None:
    """A worse control in the table of what helps than its certificate states."""
    values = forged.plain
    for step in values["steps"]:
        if step["name"] == "plain":
            step["worst_found"] = 0.1
    forged.write(values)


def another_clipped_network(forged: ForgedRetraining) -> None:
    """Another file lies where the clipped control should."""
    shutil.copy(forged.folder / "model.onnx", forged.folder / "steps" / "clip" / "model.onnx")
    forged.write(forged.plain)


def better_without_deviation(forged: ForgedRetraining) -> None:
    values = forged.plain
    next(step for step in values["steps"] if step["name"] == "method")["clean"] = 1.0
    forged.write(values)


def without_the_method_as_a_step(forged: ForgedRetraining) -> None:
    values = forged.plain
    values["steps"] = [step for step in values["steps"] if step["name"] != "method"]
    forged.write(values)


def narrower_box_after(forged: ForgedRetraining) -> None:
    """Training is said to have made the tolerance box of a layer smaller."""
    values = forged.plain
    values["weights"][0]["after"]["box_radius"] *= 0.5
    forged.write(values)


def smaller_weights_after(forged: ForgedRetraining) -> None:
    values = forged.plain
    for row in values["weights"]:
        row["after"]["mean_level"] *= 0.5
    forged.write(values)


def page(forged: ForgedRetraining) -> None:
    path = forged.folder / "retrain.html"
    path.write_text(
        path.read_text().replace("Before and after", "Before and after, independently audited")
    )
    write_manifest(forged.folder)


Forgery = Callable[[ForgedRetraining], None]
FORGERIES: dict[str, tuple[Forgery, set[str]]] = {
    "outcome_score": (outcome_score, {"outcome after"}),
    "outcome_verdict": (outcome_verdict, {"outcome after"}),
    "swapped_folders": (swapped_folders, {"networks", "conditions"}),
    "worse_control": (worse_control, {"outcome control"}),
    "certificate_of_the_control": (certificate_of_the_control, {"control: worst_found_numbers"}),
    "without_the_control": (without_the_control, {"outcome control"}),
    "another_network": (another_network, {"networks", "after: model_hash"}),
    "better_epochs": (better_epochs, {"training_log"}),
    "easier_devices": (easier_devices, {"conditions"}),
    "worse_plain_step": (worse_plain_step, {"steps"}),
    "another_clipped_network": (another_clipped_network, {"steps"}),
    "better_without_deviation": (better_without_deviation, {"steps"}),
    "without_the_method_as_a_step": (without_the_method_as_a_step, {"steps"}),
    "narrower_box_after": (narrower_box_after, {"weights"}),
    "smaller_weights_after": (smaller_weights_after, {"weights"}),
    "page": (page, {"report"}),
}


def test_a_genuine_re_training_holds(genuine: Path, samples: Path) -> None:
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    checks = cimrobust.replay(
        genuine,
        model=model,
        data=data,
        redraw=2,
        reviewer_seed=7,
        search="quick",
        rerun=True,
        workers=1,
    )
    assert [(check.id, check.detail) for check in checks if check.held is False] == []
    assert [check.id for check in checks if check.held is None] == ["steps_searched", "training"]


def _without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay what a re-training says itself alone."""
    alone = partial(retrain_replay.replay_retraining, of_certificate=lambda *_arguments: [])
    monkeypatch.setitem(replaying._REPLAYS, RETRAINING, alone)


@pytest.mark.parametrize("name", FORGERIES)
def test_replay_refutes(
    forged: ForgedRetraining, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    forge, expected = FORGERIES[name]
    forge(forged)
    if not any(
        ":" in check for check in expected
    ):  # of no certificate: theirs are replayed by other tests
        _without_certificates(monkeypatch)
    assert expected <= {
        check.id for check in cimrobust.replay(forged.folder) if check.held is False
    }


def test_a_certificate_that_is_looked_for_elsewhere_is_refused(forged: ForgedRetraining) -> None:
    another_folder(forged)
    assert run(["replay", str(forged.folder)]) == 5


def test_the_command_ends_with_the_code_of_refuted_evidence(forged: ForgedRetraining) -> None:
    outcome_verdict(forged)
    assert run(["replay", str(forged.folder)]) == 6


def test_another_tolerance_for_the_old_network_is_refuted_by_new_searches(
    forged: ForgedRetraining, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_certificates(monkeypatch)
    values = forged.plain
    values["equivalent"].update(tolerance=0.001, reason=None)
    forged.write(values)
    model, data = (samples / f"breast_cancer_mlp.{end}" for end in ("onnx", "toml"))
    checks = {
        check.id: check.held
        for check in cimrobust.replay(
            forged.folder, model=model, data=data, redraw=0, rerun=True, workers=1
        )
    }
    assert checks["equivalent"] is False


def test_what_can_be_gated_is_named(genuine: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\nclean_accuracy = 0.9\n")
    with pytest.raises(UsageError, match="after holds the certificate"):
        cimrobust.gate(genuine, policy=policy)
    assert cimrobust.gate(genuine / "after", policy=policy).word == "INCONCLUSIVE"


def test_the_report_is_made_again(forged: ForgedRetraining) -> None:
    whole = (forged.folder / "retrain.html").read_text()
    (forged.folder / "retrain.html").write_text("<p>")
    assert run(["report", str(forged.folder)]) == 0
    assert (forged.folder / "retrain.html").read_text() == whole
