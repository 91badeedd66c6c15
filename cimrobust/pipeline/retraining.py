"""From a fragile network to a robust one, with a certificate of each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cimrobust.certificate.files import atomic_text, canonical_json
from cimrobust.data.dataset import DataSet
from cimrobust.data.description import names_training_data
from cimrobust.data.load import load_data
from cimrobust.errors import UsageError
from cimrobust.graph.load import load_network
from cimrobust.graph.network import Network
from cimrobust.graph.scan import scan_layers
from cimrobust.graph.write_back import write_back
from cimrobust.mapping.place import place
from cimrobust.pipeline.analysis import analyze
from cimrobust.pipeline.arguments import available_processors, check_not_overwritten, resume_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.equivalent import equivalent_tolerance
from cimrobust.pipeline.inspection import resolve_profile
from cimrobust.pipeline.retrained import Evidence, describe
from cimrobust.progress import NullProgress, Progress
from cimrobust.report.render import render_retraining
from cimrobust.retrain.log import write_log
from cimrobust.retrain.loop import Trained, train
from cimrobust.retrain.methods.catalogue import recipe_of
from cimrobust.retrain.parameters import check_changed, stored_integers
from cimrobust.retrain.protocol import Method
from cimrobust.retrain.session import Session, open_session
from cimrobust.retrain.settings import TrainingSettings
from cimrobust.retrain.tuning import tune
from cimrobust.retrain.written import check_written

MODEL = "model.onnx"
LOG = "training.parquet"
DESCRIPTION = "retrain.json"
REPORT = "retrain.html"
BEFORE, AFTER = "before", "after"
METHOD, CONTROL = "method", "control"
DEFAULT_METHOD = "cimrobust"
_RESUME = ".resume"


@dataclass(frozen=True)
class Retrained:
    """A re-trained network and where its files are.

    Attributes:
        data: As in retrain.json.
        directory: Folder of model.onnx, retrain.json, retrain.html, training.parquet, before/, after/ and control/.
    """

    data: dict[str, Any]
    directory: Path

    @property
    def model(self) -> Path:
        """The hardened network."""
        return self.directory / MODEL

    @property
    def html(self) -> Path:
        """The report."""
        return self.directory / REPORT


def retrain(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    train_data: str | Path | None = None,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    method: str = DEFAULT_METHOD,
    knobs: Mapping[str, float] | None = None,
    settings: TrainingSettings | None = None,
    freeze: Sequence[str] = (),
    drop_overlap: bool = False,
    control: bool = True,
    tuning_epochs: int = 0,
    equivalent: bool = True,
    effort: str = "standard",
    trials: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Retrained:
    """Train a network to withstand its devices, and certify it before and after.

    Writes the same ONNX graph with new initializers, certificates of the old network, the new one and the control (plain fine-tuning with the same budget), all attacked from scratch, the
    training log and a report.

    Args:
        model: ONNX file.
        data: Evaluation data; nothing is chosen by it.
        out: Folder for everything; made if missing.
        train_data: Training data, as for `data`; of a description with a train_file that file is taken, and arrays without a description are read by that of `data`. None: the
            train_file of `data`.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's.
        method: Name of the method, see `cimrobust.retrain.methods.catalogue`.
        knobs: Settings of the method that differ from their defaults.
        settings: How to train.
        freeze: Initializers to leave as they are.
        drop_overlap: Leave training samples out that are evaluated, in place of an error.
        control: Train and certify the control as well.
        tuning_epochs: Epochs that a search for the settings of the method may take before the training (needs Optuna); 0: none.
        equivalent: Search for the tolerance at which the old network would be as good as the new one.
        effort: Effort of the certificates: ``quick``, ``standard`` or ``thorough``.
        trials: Chips that each certificate draws.
        workers: Threads of the certificates; no result depends on it. None: all processors.
        limit: Evaluate the first so many samples.
        resume: Go on from an interrupted run of the same command.
        progress: Told how far the work is.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    chosen, progress, out, clock = settings or TrainingSettings(), progress or NullProgress(), Path(out), Clock()
    chosen.check()
    recipe = recipe_of(method)
    made, threads = recipe.method(knobs), workers or available_processors()
    profile = resolve_profile(str(device), tolerance)
    resume_folder(out, _RESUME, resume=resume)
    (out / DESCRIPTION).unlink(missing_ok=True)
    with clock.stage("load"):
        network = load_network(Path(model))
        check_not_overwritten(network, MODEL, (out, out / CONTROL))
        evaluation = load_data(data, inputs=network.inputs, limit=limit)
        training = _training_data(train_data, data, network)
        session = open_session(network, profile, training, evaluation, chosen, freeze=freeze, drop_overlap=drop_overlap, workers=threads)
    tuning = None
    if tuning_epochs:
        with clock.stage("tuning"):
            tuning = tune(session, recipe, chosen, budget=tuning_epochs, progress=progress)
        made, chosen = recipe.method(tuning.values), replace(chosen, learning_rate=tuning.learning_rate)
    methods = {METHOD: made} | ({CONTROL: recipe_of("plain").method()} if control and made.name != "plain" else {})
    trained = _train(session, methods, chosen, out, clock, progress)
    certifying: dict[str, Any] = {
        "data": data,
        "device": str(device),
        "tolerance": tolerance,
        "limit": limit,
        "seed": chosen.seed,
        "workers": threads,
    }
    certifying |= {"effort": effort, "trials": trials, "resume": resume, "progress": progress}
    # By its own decisions a re-trained network would always be right.
    teacher = Path(model) if evaluation.labels is None else None
    certificates = _certify(Path(model), out, teacher, list(methods), clock, **certifying)
    same = None
    if equivalent:
        with clock.stage("equivalent_tolerance"):
            same = equivalent_tolerance(
                network, profile, evaluation, certificates[AFTER], seed=chosen.seed, workers=threads, progress=progress
            )
    evidence = Evidence(
        session=session,
        methods=methods,
        trained=trained,
        settings=chosen,
        certificates=certificates,
        evaluation=evaluation,
        training=training,
        profile=profile,
        files=(out / MODEL, *(out / file.name for file in network.files[1:]), out / LOG),
        seconds=clock.stages,
        tuning=tuning,
        equivalent=same,
    )
    described = describe(evidence)
    atomic_text(out / REPORT, render_retraining(described))
    atomic_text(out / DESCRIPTION, canonical_json(described))
    shutil.rmtree(out / _RESUME, ignore_errors=True)
    return Retrained(described, out)


def _train(
    session: Session, methods: Mapping[str, Method], settings: TrainingSettings, out: Path, clock: Clock, progress: Progress
) -> dict[str, Trained]:
    """Train by every method from the same start, write the networks and the log."""
    trained: dict[str, Trained] = {}
    for role, method in methods.items():
        with clock.stage(f"training_{role}"):
            job = session.job(method, settings)
            trained[role] = train(job, session.parameters, progress=progress, checkpoint=out / _RESUME / f"{role}.pt")
            _export(session, trained[role], out / MODEL if role == METHOD else out / role / MODEL, must_change=role == METHOD)
    write_log(out / LOG, {role: result.rows for role, result in trained.items()})
    return trained


def _training_data(train: str | Path | None, data: str | Path, network: Network) -> DataSet:
    """Return the training samples."""
    source = data if train is None else train
    if names_training_data(source):
        return load_data(source, inputs=network.inputs, part="train")
    if train is None:
        raise UsageError(f"training data must be given, got none and no train_file in {data} (--train); give --train or name a train_file")
    return load_data(source, inputs=network.inputs, like=data)


def _export(session: Session, trained: Trained, path: Path, *, must_change: bool) -> None:
    """Write the trained network, and check that what was to change did, and that the file holds what was trained.

    Raises:
        UsageError: It did not.
        SelfCheckError: It does not.
    """
    values, integers = stored_integers(session.trainable, trained.parameters)
    before, before_integers = stored_integers(session.trainable, session.parameters)
    check_changed({**before, **before_integers}, {**values, **integers}, must_change=must_change)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_back(session.runtime.network.path, path, values, integers)
    written = place(scan_layers(load_network(path)), session.profile)
    stored = session.network.stored(trained.parameters)
    for name, devices in session.trainable.devices.items():
        weight, kind = stored[name].detach(), session.runtime.network.initializers[name].dtype
        check_written(weight.cpu().numpy(), devices.program(weight).nominal.cpu().numpy(), written.tensors[name], kind, path)


def _certify(
    model: Path, out: Path, teacher: Path | None, roles: Sequence[str], clock: Clock, **settings: Any
) -> dict[str, dict[str, Any]]:
    """Certify the old network, then the new one and the control with the old one's witness among the patterns; return the certificates by folder."""
    paths = {BEFORE: model, AFTER: out / MODEL} | ({CONTROL: out / CONTROL / MODEL} if CONTROL in roles else {})
    certificates = {}
    for name, path in paths.items():
        with clock.stage(f"certificate_{name}"):
            transfer = None if name == BEFORE else out / BEFORE
            certificates[name] = analyze(
                path, out=out / name, transfer=transfer, labels_of=None if name == BEFORE else teacher, **settings
            ).data
    return certificates
