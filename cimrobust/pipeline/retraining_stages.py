"""The stages of a re-training, in their order.

Open, choose the settings, train and write, certify, compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cimrobust.certificate.certificate_files import WITNESS
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.retrained import Equivalent
from cimrobust.data.dataset import DataSet
from cimrobust.data.description import names_training_data
from cimrobust.data.load_dataset import load_data
from cimrobust.device.profile import DeviceProfile
from cimrobust.diagnose.diagnostic_catalogue import chosen
from cimrobust.engine.open import rounds_activations
from cimrobust.engine.other_sizes import check_sizes
from cimrobust.errors import CimrobustError, UsageError
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.save import to_bytes
from cimrobust.onnx_io.write_back import write_back
from cimrobust.pipeline.analysis import analyze
from cimrobust.pipeline.arguments import check_effort, check_not_overwritten
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.equivalent import equivalent_tolerance
from cimrobust.pipeline.inspection import resolve_profile
from cimrobust.progress import Progress
from cimrobust.training.log import write_log
from cimrobust.training.loop import Trained, train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.pace import Pace, choose_pace
from cimrobust.training.parameters import Parameters, check_changed, stored_integers
from cimrobust.training.session import Session, open_session
from cimrobust.training.training_protocol import Method, Recipe
from cimrobust.training.training_settings import TrainingSettings
from cimrobust.training.tuning import Tuning, tune
from cimrobust.training.written import check_written

MODEL = "model.onnx"
LOG = "training.parquet"
BEFORE, AFTER = "before", "after"
METHOD, CONTROL = "method", "control"
#: Further trainings: plain fine-tuning on clipped weights, and the method without its bound.
CLIP, ATTACK = "clip", "attack"
RESUME = ".resume"
#: Diagnostics that the report sets side by side. All would take three times as long as all else,
#: three certificates long; thorough runs them.
_DIAGNOSTICS = dict.fromkeys(("quick", "standard"), "layers,tolerance_curve")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a re-training was asked for; attributes as the arguments of `cimrobust.retrain`."""

    model: Path
    data: str | Path
    out: Path
    train_data: str | Path | None
    device: str | Path
    tolerance: float | None
    digital: Sequence[str] = ()
    method: str
    knobs: Mapping[str, float | str] | None
    settings: TrainingSettings
    freeze: Sequence[str]
    drop_overlap: bool
    control: bool
    tuning_epochs: int
    equivalent: bool
    effort: str
    trials: int | None
    diagnostics: str | None
    workers: int
    limit: int | None
    resume: bool


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
class Run:
    """What was asked for, loaded.

    Attributes:
        asked: The request.
        plan: What follows from it.
        network: The network before training.
        evaluation: Evaluation samples.
        training: Training samples.
        session: The network, ready to be trained.
    """

    asked: Request
    plan: Plan
    network: Network
    evaluation: DataSet
    training: DataSet
    session: Session


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
    pace: Pace | None


def plan(asked: Request) -> Plan:
    """Check what can be checked without the network.

    Raises:
        UsageError: A setting is out of range, or names no method, effort, diagnostic or device
            profile.
    """
    asked.settings.check()
    check_effort(asked.effort)
    chosen(asked.diagnostics, effort=asked.effort)
    recipe = recipe_of(asked.method)
    return Plan(
        recipe,
        recipe.method(asked.knobs),
        resolve_profile(str(asked.device), asked.tolerance, asked.digital),
    )


def open_run(asked: Request, planned: Plan) -> Run:
    """Load the network and both sets of samples.

    Errors as `load_network`, `load_data` and `open_session`.
    """
    network = load_network(asked.model)
    check_not_overwritten(network, MODEL, (asked.out, asked.out / CONTROL))
    evaluation = load_data(asked.data, inputs=network.inputs, limit=asked.limit)
    training = _training_data(asked.train_data, asked.data, network)
    session = open_session(
        network,
        planned.profile,
        training,
        evaluation,
        asked.settings,
        freeze=asked.freeze,
        drop_overlap=asked.drop_overlap,
        workers=asked.workers,
    )
    return Run(asked, planned, network, evaluation, training, session)


def choose(run: Run, clock: Clock, progress: Progress) -> Choice:
    """Return how to train: as asked, or as a search on the validation split says."""
    method, settings, tuning, pace = run.plan.method, run.asked.settings, None, None
    if settings.learning_rate is None:
        with clock.stage("learning_rate"):
            pace = choose_pace(run.session, settings, progress=progress)
        settings = replace(settings, learning_rate=pace.rate)
    if run.asked.tuning_epochs:
        with clock.stage("tuning"):
            tuning = tune(
                run.session,
                run.plan.recipe,
                settings,
                budget=run.asked.tuning_epochs,
                given=run.asked.knobs,
                progress=progress,
            )
        method, settings = (
            run.plan.recipe.method({**(run.asked.knobs or {}), **tuning.values}),
            replace(settings, learning_rate=tuning.learning_rate),
        )
    return Choice(
        {METHOD: method} | _controls(run, method),
        settings,
        tuning,
        pace,
    )


def _controls(run: Run, method: Method) -> dict[str, Method]:
    """Return what the method is compared with, by role; nothing where it is plain fine-tuning."""
    if not run.asked.control or method.name == "plain":
        return {}
    controls = {CONTROL: recipe_of("plain").method()}
    if method.name != "clip":
        given = {"clipping": method.clipping_loss}
        if method.weight_range is not None:
            given["range"] = method.weight_range
        controls[CLIP] = recipe_of("clip").method(given)
    return controls


def train_all(run: Run, choice: Choice, clock: Clock, progress: Progress) -> dict[str, Trained]:
    """Train by every method from the same start, write the networks and the log.

    Return the trainings by role.
    """
    out, session = run.asked.out, run.session
    trained: dict[str, Trained] = {}
    waiting = list(choice.methods.items())
    while waiting:
        role, method = waiting.pop(0)
        with clock.stage(f"training_{role}"):
            job = session.job(method, choice.settings)
            trained[role] = train(
                job, session.parameters, progress=progress, checkpoint=out / RESUME / f"{role}.pt"
            )
            export(
                session,
                trained[role].parameters,
                model_of(out, role),
                must_change=role == METHOD,
            )
        if role == METHOD and CONTROL in choice.methods and trained[role].bound.share:
            waiting.append((ATTACK, without_bound(method)))
    write_log(out / LOG, {role: result.rows for role, result in trained.items()})
    return trained


def without_bound(method: Method) -> Method:
    """Return a method without the interval bound in its loss."""
    return replace(method, bound_share=0.0, knobs={**method.knobs, "bound": 0.0})


def model_of(out: Path, role: str) -> Path:
    """Return where the network of a training lies."""
    if role == METHOD:
        return out / MODEL
    return out / role / MODEL if role == CONTROL else out / "steps" / role / MODEL


def written_files(run: Run) -> tuple[Path, ...]:
    """Return the model, its external data, and the log."""
    out = run.asked.out
    return (out / MODEL, *(out / file.name for file in run.network.files[1:]), out / LOG)


def planned_diagnostics(asked: Request) -> str | None:
    """Return the diagnostics of every certificate, as `cimrobust.analyze` takes them."""
    return _DIAGNOSTICS.get(asked.effort) if asked.diagnostics is None else asked.diagnostics


def certify(
    run: Run, choice: Choice, clock: Clock, progress: Progress
) -> dict[str, CertificateModel]:
    """Certify the old network, then the new one and the control with the old one's witness among the patterns; return the certificates by folder."""
    asked, out = run.asked, run.asked.out
    paths = {BEFORE: asked.model, AFTER: out / MODEL} | (
        {CONTROL: out / CONTROL / MODEL} if CONTROL in choice.methods else {}
    )
    # By its own decisions a re-trained network would always be right.
    teacher = asked.model if run.evaluation.labels is None else None
    certificates: dict[str, CertificateModel] = {}
    for name, path in paths.items():
        with clock.stage(f"certificate_{name}"):
            certificates[name] = analyze(
                path,
                data=asked.data,
                out=out / name,
                device=str(asked.device),
                tolerance=asked.tolerance,
                digital=asked.digital,
                effort=asked.effort,
                trials=asked.trials,
                diagnostics=planned_diagnostics(asked),
                seed=choice.settings.seed,
                workers=asked.workers,
                limit=asked.limit,
                transfer=None if name == BEFORE else out / BEFORE,
                labels_of=None if name == BEFORE else teacher,
                resume=asked.resume,
                progress=progress,
            ).record
    return certificates


def compare(
    run: Run,
    choice: Choice,
    certificates: Mapping[str, CertificateModel],
    clock: Clock,
    progress: Progress,
) -> Equivalent | None:
    """Search for the tolerance at which the old network would be as good as the new one.

    None: nobody asked.
    """
    if not run.asked.equivalent:
        return None
    with clock.stage("equivalent_tolerance"):
        return equivalent_tolerance(
            run.network,
            run.plan.profile,
            run.evaluation,
            certificates[AFTER],
            witness=run.asked.out / BEFORE / WITNESS,
            seed=choice.settings.seed,
            workers=run.asked.workers,
            progress=progress,
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


def export(session: Session, parameters: Parameters, path: Path, *, must_change: bool) -> None:
    """Write a network with other values, and check that what was to change did, and that the file holds what was trained.

    Raises:
        UsageError: It did not.
        SelfCheckError: It does not.
    """
    values, integers = stored_integers(session.trainable, parameters)
    before, before_integers = stored_integers(session.trainable, session.parameters)
    check_changed({**before, **before_integers}, {**values, **integers}, must_change=must_change)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = write_back(session.runtime.network.path, path, values, integers)
    try:
        _check_file(session, parameters, path)
    except CimrobustError:
        for file in written:
            file.unlink(missing_ok=True)
        raise


def _check_file(session: Session, parameters: Parameters, path: Path) -> None:
    """Check that a file holds what was trained, and that what is made of it computes what the file does at other sizes too.

    Raises:
        SelfCheckError: It does not.
    """
    network, scan = stored_layers(load_network(path), session.profile)
    written = place(scan, session.profile)
    stored = session.network.stored(parameters)
    for name, devices in session.trainable.devices.items():
        weight, kind = stored[name].detach(), session.runtime.network.initializers[name].dtype
        check_written(
            weight.cpu().numpy(),
            devices.program(weight).nominal.cpu().numpy(),
            written.tensors[name],
            kind,
            path,
        )
    deployed = to_bytes(deploy(network, scan, widen=False).model, path)
    check_sizes(network, deployed, integer=rounds_activations(network, scan))
