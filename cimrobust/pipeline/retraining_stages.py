"""The stages of a re-training, in their order.

Open, choose the settings, train and write, certify, compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.result_names import AFTER, BEFORE, RETRAINED_MODEL, TRAINING_LOG, WITNESS
from cimrobust.cluster.address import Address
from cimrobust.data.dataset import DataSet
from cimrobust.data.description import names_training_data
from cimrobust.data.load_dataset import load_data
from cimrobust.device.profile import DeviceProfile
from cimrobust.diagnose.diagnostic_names import chosen
from cimrobust.errors import UsageError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.pipeline.arguments import check_not_overwritten
from cimrobust.pipeline.kept_retraining import retraining_digest
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.pipeline.retrain_request import RetrainRequest
from cimrobust.pipeline.retrained_file import export, model_of
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.equivalent_tolerance import equivalent_tolerance
from cimrobust.training.log import write_log
from cimrobust.training.loop import Trained, train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.pace import choose_pace
from cimrobust.training.session import Session, open_session
from cimrobust.training.training_protocol import Method, Recipe
from cimrobust.training.training_records import Equivalent, Paced
from cimrobust.training.training_roles import ATTACK, CLIP, CONTROL, METHOD, without_bound
from cimrobust.training.tuning import Tuning, tune

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.pipeline.clock import Clock

RESUME = ".resume"
#: Diagnostics that the report sets side by side. All would take three times as long as all else,
#: three certificates long; thorough runs them.
_DIAGNOSTICS = dict.fromkeys(("quick", "standard"), "layers,tolerance_curve")


@dataclass(frozen=True)
class Plan:
    """What follows from a request before any file of the network is read.

    Attributes:
        recipe: Makes the method from its settings.
        method: The method with the settings asked for.
        profile: The devices.
    """

    recipe: Recipe
    method: Method
    profile: DeviceProfile


@dataclass(frozen=True)
class OpenedRetraining:
    """What was asked for, loaded.

    Attributes:
        asked: The request.
        plan: What follows from it.
        network: The network before training.
        evaluation: Evaluation samples.
        training: Training samples.
        session: The network, ready to be trained.
        parts: Where finished parts are kept and taken from.
    """

    asked: RetrainRequest
    plan: Plan
    network: Network
    evaluation: DataSet
    training: DataSet
    session: Session
    parts: FinishedParts = NOTHING_KEPT


@dataclass(frozen=True)
class Choice:
    """How to train.

    Attributes:
        methods: Methods by role, ``method`` and, if asked for, ``control``.
        settings: Settings of all trainings.
        tuning: The search that chose them; None: there was none.
        pace: How the learning rate was chosen; None: it was given.
    """

    methods: Mapping[str, Method]
    settings: TrainingSettings
    tuning: Tuning | None
    pace: Paced | None


def plan(asked: RetrainRequest) -> Plan:
    """Check what can be checked without the network.

    Raises:
        UsageError: A setting is out of range, or names no method, effort, diagnostic, device
            profile or place to work.
    """
    asked.training.check()
    if asked.settings.cluster is not None:
        Address.parse(asked.settings.cluster)
    named = asked.subject
    chosen(asked.settings.diagnostics, effort=asked.run.effort)
    recipe = recipe_of(asked.settings.method)
    return Plan(
        recipe,
        recipe.method(asked.settings.knobs),
        resolve_profile(str(named.device), named.tolerance, named.digital),
    )


def open_retraining(asked: RetrainRequest, planned: Plan) -> OpenedRetraining:
    """Load the network and both sets of samples.

    Errors as `load_network`, `load_data` and `open_session`.
    """
    network = load_network(asked.model)
    check_not_overwritten(network, RETRAINED_MODEL, (asked.out, asked.out / CONTROL))
    named, settings = asked.subject, asked.settings
    evaluation = load_data(named.data, inputs=network.inputs, limit=named.limit)
    training = _training_data(settings.train_data, named.data, network)
    session = open_session(
        network,
        planned.profile,
        training,
        evaluation,
        asked.training,
        freeze=settings.freeze,
        drop_overlap=settings.drop_overlap,
        workers=asked.run.workers,
    )
    folder = asked.out / RESUME
    parts = FinishedParts(folder, retraining_digest(asked, session, (evaluation, training)))
    return OpenedRetraining(asked, planned, network, evaluation, training, session, parts)


def choose(opened: OpenedRetraining, clock: Clock) -> Choice:
    """Return how to train: as asked, or as a search on the validation split says."""
    method, settings, tuning, pace = opened.plan.method, opened.asked.training, None, None
    if settings.learning_rate is None:
        with clock.stage("learning_rate"):
            pace = opened.parts.recall(
                "learning_rate",
                Paced,
                partial(choose_pace, opened.session, settings, progress=opened.asked.run.progress),
            )
        settings = replace(settings, learning_rate=pace.rate)
    if opened.asked.settings.tuning_epochs:
        with clock.stage("tuning"):
            tuning = opened.parts.recall(
                "tuning",
                Tuning,
                partial(
                    tune,
                    opened.session,
                    opened.plan.recipe,
                    settings,
                    budget=opened.asked.settings.tuning_epochs,
                    given=opened.asked.settings.knobs,
                    progress=opened.asked.run.progress,
                ),
            )
        method, settings = (
            opened.plan.recipe.method({**(opened.asked.settings.knobs or {}), **tuning.values}),
            replace(settings, learning_rate=tuning.learning_rate),
        )
    return Choice(
        {METHOD: method} | _controls(opened, method),
        settings,
        tuning,
        pace,
    )


def _controls(opened: OpenedRetraining, method: Method) -> dict[str, Method]:
    """Return what the method is compared with, by role; nothing where it is plain fine-tuning."""
    if not opened.asked.settings.control or method.name == "plain":
        return {}
    controls = {CONTROL: recipe_of("plain").method()}
    if method.name != "clip":
        given = {"clipping": method.clipping_loss}
        if method.weight_range is not None:
            given["range"] = method.weight_range
        controls[CLIP] = recipe_of("clip").method(given)
    return controls


def train_all(opened: OpenedRetraining, choice: Choice, clock: Clock) -> dict[str, Trained]:
    """Train by every method from the same start, write the networks and the log.

    Return the trainings by role.
    """
    out, session = opened.asked.out, opened.session
    trained: dict[str, Trained] = {}
    waiting = list(choice.methods.items())
    while waiting:
        role, method = waiting.pop(0)
        with clock.stage(f"training_{role}"):
            job = session.job(method, choice.settings)
            trained[role] = train(
                job,
                session.parameters,
                progress=opened.asked.run.progress,
                checkpoint=out / RESUME / f"{role}.pt",
            )
            export(
                session,
                trained[role].parameters,
                model_of(out, role),
                must_change=role == METHOD,
            )
        if role == METHOD and CONTROL in choice.methods and trained[role].bound.share:
            waiting.append((ATTACK, without_bound(method)))
    write_log(out / TRAINING_LOG, {role: result.rows for role, result in trained.items()})
    return trained


def written_files(opened: OpenedRetraining) -> tuple[Path, ...]:
    """Return the model, its external data, and the log."""
    out = opened.asked.out
    return (
        out / RETRAINED_MODEL,
        *(out / file.name for file in opened.network.files[1:]),
        out / TRAINING_LOG,
    )


def planned_diagnostics(asked: RetrainRequest) -> str | None:
    """Return the diagnostics of every certificate, as `cimrobust.analyze` takes them."""
    return (
        _DIAGNOSTICS.get(asked.run.effort)
        if asked.settings.diagnostics is None
        else asked.settings.diagnostics
    )


def compare(
    opened: OpenedRetraining,
    choice: Choice,
    certificates: Mapping[str, CertificateModel],
    clock: Clock,
) -> Equivalent | None:
    """Search for the tolerance at which the old network would be as good as the new one.

    None: nobody asked.
    """
    if not opened.asked.settings.equivalent:
        return None
    with clock.stage("equivalent_tolerance"):
        target = certificates[AFTER].worst_found.score
        return opened.parts.within("equivalent", target).recall(
            "tolerance",
            Equivalent,
            partial(
                equivalent_tolerance,
                opened.network,
                opened.plan.profile,
                opened.evaluation,
                replace(opened.asked.run, seed=choice.settings.seed),
                target=target,
                witness=opened.asked.out / BEFORE / WITNESS,
            ),
        )


def _training_data(train: str | Path | None, data: str | Path, network: Network) -> DataSet:
    """Return the training samples."""
    source = data if train is None else train
    if names_training_data(source):
        return load_data(source, inputs=network.inputs, part="train")
    if train is None:
        raise UsageError(
            f"training data must be given, got none and no train_file in {data} (--train); give"
            " --train or name a train_file"
        )
    return load_data(source, inputs=network.inputs, like=data)
