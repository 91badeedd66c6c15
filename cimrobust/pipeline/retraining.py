"""From a fragile network to a robust one, with a certificate of each."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.certificate.certificate_files import atomic_text, canonical_json
from cimrobust.certificate.manifest import remove_seal, write_manifest
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.certificate.result_names import (
    AFTER,
    BEFORE,
    RETRAINED_MODEL,
    RETRAINING,
    RETRAINING_REPORT,
)
from cimrobust.certificate.retrained_record import Evidence, Measured, describe
from cimrobust.certificate.saved_result import SavedResult
from cimrobust.files import sha256_of
from cimrobust.input_file import printable
from cimrobust.pipeline import retraining_stages as stages
from cimrobust.pipeline.analysis import analyze
from cimrobust.pipeline.arguments import resume_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.gain_steps import measure_steps
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.kept_retraining import kept_certificate
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.private_folder import folder_optional
from cimrobust.pipeline.retrain_request import RetrainRequest
from cimrobust.pipeline.retrained_file import model_of
from cimrobust.report.render import render_retraining
from cimrobust.settings.command_settings import RetrainSettings
from cimrobust.settings.commands import RETRAIN
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.training_roles import CONTROL

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import RetrainOptions
    from cimrobust.training.loop import Trained


@dataclass(frozen=True, repr=False)
class Retrained(SavedResult):
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
        return self.directory / RETRAINED_MODEL

    @property
    def html(self) -> Path:
        """The report."""
        return self.directory / RETRAINING_REPORT

    def __repr__(self) -> str:
        """Say what the training did to the worst chip found, in one line."""
        before, after = self.record.before.worst_found, self.record.after.worst_found
        return (
            f"<Retrained {printable(self.record.model)}: worst found {score_text(before)} before,"
            f" {score_text(after)} after, in {printable(self.directory)}>"
        )

    def _repr_html_(self) -> str:
        """Show the scores before and after in a notebook."""
        before, after = self.record.before, self.record.after
        pairs = {
            "model file": (before.clean, after.clean),
            "programmed without deviation": (before.quantised, after.quantised),
            "average chip": (before.mean, after.mean),
            "worst chip found": (before.worst_found, after.worst_found),
            "certified": (before.certified, after.certified),
        }
        return notebook_view(
            f"{self.record.model}, re-trained",
            [(name, *map(score_text, pair)) for name, pair in pairs.items()],
            columns=(self.record.metric.name, "before", "after"),
            place=self.html,
        )


@takes_settings(RETRAIN)
@folder_optional
@takes_objects
@keeps_limits(RETRAIN)
def retrain(
    model: ModelLike,
    *,
    data: DataLike,
    out: str | Path | None = None,
    example_input: Any = None,
    settings: TrainingSettings | RetrainSettings | RetrainOptions | None = None,
    run: Run | None = None,
    **options: Unpack[RetrainOptions],
) -> Retrained:
    """Train a network to withstand its devices, and certify it before and after.

    Writes the same ONNX graph with new initializers, certificates of the old network, the new one
    and the control (plain fine-tuning with the same budget), all attacked from scratch, what each
    part of the method gains, the training log and a report.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: Evaluation data; nothing is chosen by it.
        out: Folder for everything; made if missing. Without it they are in a private folder, which
            is removed with the result; its `save` keeps them.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    given = gather(RETRAIN, settings, run, options)
    return _retrained(
        RetrainRequest(
            subject=given.part(SubjectSettings, model=model, data=data),
            settings=given.part(RetrainSettings),
            training=given.part(TrainingSettings),
            run=given.run(),
            out=given_path(out),
        )
    )


def _retrained(asked: RetrainRequest) -> Retrained:
    """Do what was asked for, stage by stage, and write it down."""
    clock, out = Clock(), asked.out
    planned = stages.plan(asked)
    resume_folder(out, stages.RESUME, resume=asked.settings.resume)
    (out / RETRAINING).unlink(missing_ok=True)
    remove_seal(out)
    with clock.stage("load"):
        opened = stages.open_retraining(asked, planned)
    evidence = _evidence(opened, clock)
    described = describe(evidence)
    atomic_text(out / RETRAINING_REPORT, render_retraining(described))
    atomic_text(out / RETRAINING, canonical_json(described))
    shutil.rmtree(out / stages.RESUME, ignore_errors=True)
    write_manifest(out)
    return Retrained(described, out)


def _evidence(opened: stages.OpenedRetraining, clock: Clock) -> Evidence:
    """Run the stages in their order."""
    choice = stages.choose(opened, clock)
    trained = stages.train_all(opened, choice, clock)
    certificates = _certificates(opened, choice, clock)
    return Evidence(
        session=opened.session,
        methods=choice.methods,
        trained=trained,
        settings=choice.settings,
        certificates=certificates,
        evaluation=opened.evaluation,
        training=opened.training,
        profile=opened.plan.profile,
        files=stages.written_files(opened),
        tuning=choice.tuning,
        pace=choice.pace,
        equivalent=stages.compare(opened, choice, certificates, clock),
        measured=_measured(opened, trained, certificates, clock),
        seconds=clock.stages,
    )


def _certificates(
    opened: stages.OpenedRetraining, choice: stages.Choice, clock: Clock
) -> dict[str, CertificateModel]:
    """Certify the old network, then the new one and the control; return certificates by folder.

    The old one's witness is among the patterns that the others are scored with.
    """
    asked, named, out = opened.asked, opened.asked.subject, opened.asked.out
    paths = {BEFORE: asked.model, AFTER: out / RETRAINED_MODEL} | (
        {CONTROL: out / CONTROL / RETRAINED_MODEL} if CONTROL in choice.methods else {}
    )
    # By its own decisions a re-trained network would always be right.
    teacher = asked.model if opened.evaluation.labels is None else None
    certificates: dict[str, CertificateModel] = {}
    for name, path in paths.items():
        with clock.stage(f"certificate_{name}"):
            make = partial(
                analyze,
                path,
                data=named.data,
                out=out / name,
                device=str(named.device),
                tolerance=named.tolerance,
                digital=named.digital,
                effort=asked.run.effort,
                trials=asked.settings.trials,
                diagnostics=stages.planned_diagnostics(asked),
                seed=choice.settings.seed,
                workers=asked.run.workers,
                limit=named.limit,
                transfer=None if name == BEFORE else out / BEFORE,
                labels_of=None if name == BEFORE else teacher,
                resume=asked.settings.resume,
                cluster=asked.settings.cluster,
                progress=opened.asked.run.progress,
            )
            before = certificates.get(BEFORE)
            witness = None if before is None else dict(before.worst_found.witness)
            parts = opened.parts.within("certificate", sha256_of(path), witness)
            certificates[name] = kept_certificate(parts, out / name, make)
    return certificates


def _measured(
    opened: stages.OpenedRetraining,
    trained: Mapping[str, Trained],
    certificates: Mapping[str, CertificateModel],
    clock: Clock,
) -> Measured | None:
    """Return what each part of the method gains; None without controls."""
    if CONTROL not in trained:
        return None
    with clock.stage("gain_steps"):
        networks = [sha256_of(model_of(opened.asked.out, role)) for role in trained]
        return opened.parts.within("gain", networks).recall(
            "steps", Measured, partial(measure_steps, opened, trained, certificates)
        )
