"""What retrain.json says of a re-training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.attack.tolerances import stated_tolerance
from cimrobust.certificate import models
from cimrobust.certificate.models import retrained as blocks
from cimrobust.certificate.side_by_side_tables import compare_layers, compare_tolerances
from cimrobust.data.dataset import DataSet
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.profile import DeviceProfile
from cimrobust.files import sha256_of
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.loop import Trained
from cimrobust.training.session import Session
from cimrobust.training.training_protocol import Method
from cimrobust.training.training_records import Equivalent, Paced
from cimrobust.training.training_roles import ATTACK, CLIP, METHOD, without_bound
from cimrobust.training.tuning import Tuning

if TYPE_CHECKING:
    from cimrobust.training.state import EpochRow


@dataclass(frozen=True)
class Measured:
    """What a re-training says of its parts.

    Attributes:
        steps: Every network on the way.
        weights: How the weights of its layers lie.
    """

    steps: list[blocks.GainStep]
    weights: list[blocks.LayerWeights]


@dataclass(frozen=True)
class Evidence:
    """Everything that a re-training left behind.

    Attributes:
        session: The network.
        methods: Methods by role, ``method`` and ``control``.
        trained: Trainings by role.
        settings: How they ran.
        certificates: Certificates by folder.
        evaluation: Evaluation samples.
        training: Training samples.
        profile: The devices.
        files: The model, its external data, and the log.
        seconds: Wall-clock time by stage.
        tuning: Search for settings; None: there was none.
        pace: How the learning rate was chosen; None: it was given.
        equivalent: From `equivalent_tolerance`; None: nobody asked.
        measured: What each part of the method gains; None: there are no controls.
    """

    session: Session
    methods: Mapping[str, Method]
    trained: Mapping[str, Trained]
    settings: TrainingSettings
    certificates: Mapping[str, models.CertificateModel]
    evaluation: DataSet
    training: DataSet
    profile: DeviceProfile
    files: tuple[Path, ...]
    seconds: Mapping[str, float]
    tuning: Tuning | None = None
    pace: Paced | None = None
    equivalent: Equivalent | None = None
    measured: Measured | None = None


def describe(evidence: Evidence) -> blocks.Retraining:
    """Return retrain.json."""
    session, before = evidence.session, evidence.certificates["before"]
    split = session.split
    control = evidence.methods.get("control")
    tolerances, tolerances_reason = compare_tolerances(
        evidence.certificates, stated=stated_tolerance(evidence.profile)
    )
    layers, layers_reason = compare_layers(
        evidence.certificates, trained=session.parameters.weights
    )
    return blocks.Retraining(
        schema_version="1.5",
        tool=before.tool,
        metric=before.metric,
        model=session.runtime.network.path.name,
        device=evidence.profile.name,
        tolerance=tolerance_fraction(evidence.profile),
        self_labelled=evidence.training.labels is None,
        splits=blocks.Splits(
            training=len(split.training),
            validation=len(split.validation),
            evaluation=evidence.evaluation.num_samples,
            dropped=len(split.dropped),
            digest=split.digest,
            training_files=dict(evidence.training.source.files),
            evaluation_files=dict(evidence.evaluation.source.files),
        ),
        settings=asdict(evidence.settings),
        parameters=_parameters(session),
        training=_training(evidence.methods["method"], evidence.trained["method"]),
        control=None if control is None else _training(control, evidence.trained["control"]),
        more_trainings=_more(evidence),
        steps=[] if evidence.measured is None else evidence.measured.steps,
        steps_reason=None if evidence.measured is not None else "there are no controls",
        weights=[] if evidence.measured is None else evidence.measured.weights,
        tuning=None if evidence.tuning is None else _tuned(evidence.tuning),
        pace=evidence.pace,
        before=outcome_of(before, "before"),
        after=outcome_of(evidence.certificates["after"], "after"),
        control_outcome=(
            None if control is None else outcome_of(evidence.certificates["control"], "control")
        ),
        tolerances=tolerances,
        tolerances_reason=tolerances_reason,
        layers=layers,
        layers_reason=layers_reason,
        equivalent=evidence.equivalent,
        notes=list(session.notes),
        files={path.name: sha256_of(path) for path in evidence.files},
        seconds=dict(evidence.seconds),
    )


def _more(evidence: Evidence) -> dict[str, blocks.Training]:
    """Return the trainings that have no certificate, by role."""
    methods = {ATTACK: without_bound(evidence.methods[METHOD]), **evidence.methods}
    return {
        role: _training(methods[role], made)
        for role, made in evidence.trained.items()
        if role in (CLIP, ATTACK)
    }


def _tuned(tuning: Tuning) -> blocks.Tuned:
    return blocks.Tuned(
        budget_epochs=tuning.budget,
        used_epochs=tuning.used,
        library=tuning.library,
        trials=tuning.trials,
    )


def _parameters(session: Session) -> blocks.Parameters:
    norms = {
        name
        for norm in session.trainable.digital.normalisations
        for name in (norm.scale, norm.shift, norm.mean, norm.variance)
    }
    digital = (*session.parameters.digital, *session.parameters.buffers)
    return blocks.Parameters(
        stored=list(session.parameters.weights),
        biases=[name for name in digital if name not in norms],
        normalisations=[name for name in digital if name in norms],
        left=dict(session.trainable.left),
    )


def _training(method: Method, trained: Trained) -> blocks.Training:
    return blocks.Training(
        method=method.name,
        what=method.what,
        knobs=dict(method.knobs),
        version=method.version,
        noise_scale=trained.sigma,
        weight_range=trained.weight_range,
        bound_share=trained.bound.share,
        bound_ratio=trained.bound.ratio,
        bound_reason=trained.bound.reason,
        best_epoch=trained.best_epoch,
        stopped_early=trained.stopped_early,
        epochs=[_epoch(row) for row in trained.rows],
    )


def _epoch(row: EpochRow) -> blocks.Epoch:
    values = {
        key: _finite(value) if isinstance(value, float) else value
        for key, value in asdict(row).items()
    }
    return blocks.Epoch.model_validate(values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def outcome_of(certificate: models.CertificateModel, folder: str) -> blocks.Outcome:
    """Return what retrain.json says of a certificate.

    Args:
        certificate: The certificate.
        folder: Its folder, relative to retrain.json.
    """
    drawn, worst, certified = (
        certificate.monte_carlo,
        certificate.worst_found,
        certificate.certified,
    )
    transferred = [member.score for member in worst.members if member.name == "transferred_witness"]
    file = certificate.model.files[0]
    return blocks.Outcome(
        folder=folder,
        model=file,
        clean=certificate.clean.score,
        quantised=certificate.clean.quantised_score,
        mean=drawn.mean,
        kpp=[
            {
                "k": entry.k,
                "score": entry.score,
                "lower_bound": entry.lower_bound,
                "confidence": entry.confidence,
            }
            for entry in drawn.kpp
        ],
        worst_found=worst.score,
        transferred=transferred[0] if transferred else None,
        certified=certified.score,
        certified_reason=certified.reason,
        trials=drawn.trials,
        effort=worst.effort,
        verdict=certificate.verdict.word,
    )
