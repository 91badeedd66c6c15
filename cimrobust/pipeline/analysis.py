"""The whole job: from a model file to a certificate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.named_metric import require_named_metric
from cimrobust.certificate.result import Certificate
from cimrobust.pipeline.arguments import make_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_analysis import keeping_parts, open_analysis
from cimrobust.pipeline.planned_analysis import Told, planned
from cimrobust.pipeline.private_folder import folder_optional
from cimrobust.pipeline.resolved_analysis import resolve
from cimrobust.pipeline.resuming import RESUME
from cimrobust.pipeline.stages import run_stages
from cimrobust.pipeline.summaries import Summaries
from cimrobust.pipeline.writing import write_files
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import ANALYZE
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import Gathered, gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import AnalyzeOptions


@takes_settings(ANALYZE)
@folder_optional
@takes_objects
@keeps_limits(ANALYZE)
def analyze(
    model: ModelLike,
    *,
    data: DataLike,
    out: str | Path | None = None,
    example_input: Any = None,
    settings: AnalysisSettings | AnalyzeOptions | None = None,
    run: Run | None = None,
    **options: Unpack[AnalyzeOptions],
) -> Certificate:
    """Find the worst chip that the device tolerance allows for a model, and write a certificate.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: Data description, .npz, .csv, folder of ONNX test data, or ``module:function``; or
            data in memory: arrays ``(x, y)``, arrays by graph input and ``y``, or a `TensorDataset`
            or `DataLoader` of torch.
        out: Folder for certificate.json, certificate.html, witness/ and trials.parquet; made if
            missing. Without it they are in a private folder, which is removed with the result; its
            `save` keeps them.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    return _certificate(
        given_path(model),
        data,
        given_path(out),
        gather(ANALYZE, settings, run, options),
        Clock(),
    )


@keeps_limits(ANALYZE)
def analyze_by_command(
    model: Path,
    *,
    data: str,
    out: Path,
    clock: Clock,
    told: Told,
    collected: Path | None,
    **options: Any,
) -> Certificate:
    """Do the same for a command of its own, whose clock began with its process.

    Args:
        model: ONNX file.
        data: As for `analyze`.
        out: Likewise.
        clock: Times the stages.
        told: Who is told of the plan of a long run before it begins.
        collected: File that summaries of a pipeline's steps are appended to; None: there is none.
        options: Settings by name.
    """
    given = gather(ANALYZE, None, None, options)
    return _certificate(model, data, out, given, clock, told=told, collected=collected)


def _certificate(
    model: Path,
    data: Any,
    out: Path,
    given: Gathered,
    clock: Clock,
    *,
    told: Told | None = None,
    collected: Path | None = None,
) -> Certificate:
    """Do what was asked for, stage by stage, and write it down."""
    with clock.stage("load"):
        asked = resolve(
            given.part(SubjectSettings, model=model, data=data),
            given.part(AnalysisSettings),
            given.run(),
            out=out,
        )
        summaries = Summaries(asked.settings.summary, collected)
        summaries.check()
        make_folder(out)
        opened = open_analysis(asked)
        if asked.policy is not None:
            task = opened.subject.runtime.task
            require_named_metric(asked.policy, task.metric, higher_is_better=task.higher_is_better)
    with clock.stage("load"):
        opened = planned(opened, loading=clock.stages["load"], told=told)
        opened = keeping_parts(opened)
    findings = run_stages(opened, clock)
    written = write_files(opened, findings, clock)
    shutil.rmtree(out / RESUME, ignore_errors=True)
    write_manifest(out)
    summaries.write(asked)
    return Certificate(written, out)
