"""From a fragile network to a robust one, with a certificate of each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cimrobust.certificate.certificate_files import atomic_text, canonical_json
from cimrobust.certificate.manifest import remove_seal, write_manifest
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.pipeline import retraining_stages as stages
from cimrobust.pipeline.arguments import available_processors, resume_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.gain_steps import Measured, measure_steps
from cimrobust.pipeline.retrained_record import Evidence, describe
from cimrobust.progress import NullProgress, Progress
from cimrobust.report.render import render_retraining
from cimrobust.training.loop import Trained
from cimrobust.training.training_settings import TrainingSettings

DESCRIPTION = "retrain.json"
REPORT = "retrain.html"
DEFAULT_METHOD = "cimrobust"


@dataclass(frozen=True)
class Retrained:
    """A re-trained network and where its files are.

    Attributes:
        record: What retrain.json says.
        directory: Folder of model.onnx, retrain.json, retrain.html, training.parquet, before/,
            after/ and control/.
    """

    record: Retraining
    directory: Path

    @property
    def data(self) -> dict[str, Any]:
        """The record as plain values, as in retrain.json."""
        return self.record.model_dump()

    @property
    def model(self) -> Path:
        """The hardened network."""
        return self.directory / stages.MODEL

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
    digital: Sequence[str] = (),
    method: str = DEFAULT_METHOD,
    knobs: Mapping[str, float | str] | None = None,
    settings: TrainingSettings | None = None,
    freeze: Sequence[str] = (),
    drop_overlap: bool = False,
    control: bool = True,
    tuning_epochs: int = 0,
    equivalent: bool = True,
    effort: str = "standard",
    trials: int | None = None,
    diagnostics: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Retrained:
    """Train a network to withstand its devices, and certify it before and after.

    Writes the same ONNX graph with new initializers, certificates of the old network, the new one
    and the control (plain fine-tuning with the same budget), all attacked from scratch, what each
    part of the method gains, the training log and a report.

    Args:
        model: ONNX file.
        data: Evaluation data; nothing is chosen by it.
        out: Folder for everything; made if missing.
        train_data: Training data, as for `data`; of a description with a train_file that file is
            taken, and arrays without a description are read by that of `data`. None: the
            train_file of `data`.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        method: Name of the method, see `cimrobust.training.methods.method_catalogue`.
        knobs: Settings of the method that differ from their defaults.
        settings: How to train.
        freeze: Initializers to leave as they are.
        drop_overlap: Leave training samples out that are evaluated, in place of an error.
        control: Train and certify the control as well, train and attack plain fine-tuning on
            clipped weights, and measure what each part of the method gains.
        tuning_epochs: Epochs that a search for the settings of the method may take before the
            training (needs Optuna); 0: none.
        equivalent: Search for the tolerance at which the old network would be as good as the new
            one.
        effort: Effort of the certificates: ``quick``, ``standard`` or ``thorough``.
        trials: Chips that each certificate draws.
        diagnostics: Diagnostics of each certificate, as for `cimrobust.analyze`; None: those that
            the report sets side by side, at effort thorough all.
        workers: Threads of the certificates; no result depends on it. None: all processors.
        limit: Evaluate the first so many samples.
        resume: Go on from an interrupted run of the same command.
        progress: Told how far the work is.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    request = stages.Request(
        model=Path(model),
        data=data,
        out=Path(out),
        train_data=train_data,
        device=device,
        tolerance=tolerance,
        digital=tuple(digital),
        method=method,
        knobs=knobs,
        settings=settings or TrainingSettings(),
        freeze=freeze,
        drop_overlap=drop_overlap,
        control=control,
        tuning_epochs=tuning_epochs,
        equivalent=equivalent,
        effort=effort,
        trials=trials,
        diagnostics=diagnostics,
        workers=workers or available_processors(),
        limit=limit,
        resume=resume,
    )
    return _retrained(request, progress or NullProgress())


def _retrained(asked: stages.Request, progress: Progress) -> Retrained:
    """Do what was asked for, stage by stage, and write it down."""
    clock, out = Clock(), asked.out
    planned = stages.plan(asked)
    resume_folder(out, stages.RESUME, resume=asked.resume)
    (out / DESCRIPTION).unlink(missing_ok=True)
    remove_seal(out)
    with clock.stage("load"):
        run = stages.open_run(asked, planned)
    evidence = _evidence(run, clock, progress)
    described = describe(evidence)
    atomic_text(out / REPORT, render_retraining(described))
    atomic_text(out / DESCRIPTION, canonical_json(described))
    shutil.rmtree(out / stages.RESUME, ignore_errors=True)
    write_manifest(out)
    return Retrained(described, out)


def _evidence(run: stages.Run, clock: Clock, progress: Progress) -> Evidence:
    """Run the stages in their order."""
    choice = stages.choose(run, clock, progress)
    trained = stages.train_all(run, choice, clock, progress)
    certificates = stages.certify(run, choice, clock, progress)
    return Evidence(
        session=run.session,
        methods=choice.methods,
        trained=trained,
        settings=choice.settings,
        certificates=certificates,
        evaluation=run.evaluation,
        training=run.training,
        profile=run.plan.profile,
        files=stages.written_files(run),
        tuning=choice.tuning,
        pace=choice.pace,
        equivalent=stages.compare(run, choice, certificates, clock, progress),
        measured=_measured(run, trained, certificates, clock, progress),
        seconds=clock.stages,
    )


def _measured(
    run: stages.Run,
    trained: Mapping[str, Trained],
    certificates: Mapping[str, CertificateModel],
    clock: Clock,
    progress: Progress,
) -> Measured | None:
    """Return what each part of the method gains; None without controls."""
    if stages.CONTROL not in trained:
        return None
    with clock.stage("gain_steps"):
        return measure_steps(run, trained, certificates, progress)
