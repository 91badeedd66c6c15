"""A sweep over write-verify tolerances: from a model file to sweep.json and sweep.html."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.certificate.assemble_sweep import SweepEvidence, assemble_sweep
from cimrobust.certificate.certificate_files import atomic_text, canonical_json
from cimrobust.certificate.manifest import remove_seal, write_manifest
from cimrobust.certificate.models import Timings
from cimrobust.certificate.models.swept import SafeTolerances, SweepModel
from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.certificate.result_names import SWEEP, SWEEP_REPORT, WITNESS
from cimrobust.certificate.safe_statements import safe_tolerances
from cimrobust.certificate.saved_result import SavedResult
from cimrobust.cluster.address import Address
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of, staging_folder
from cimrobust.finished_parts import FinishedParts, digest_of
from cimrobust.input_file import printable
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.arguments import resume_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.private_folder import folder_optional
from cimrobust.pipeline.resolved_sweep import ResolvedSweep
from cimrobust.pipeline.resuming import run_digest
from cimrobust.pipeline.working_place import ForWorkers, executor_of
from cimrobust.report.sweep_page import render_sweep
from cimrobust.search.witness import write_witness
from cimrobust.settings import commands
from cimrobust.settings.command_settings import SweepSettings
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.tolerance_sweep.safe_tolerance import (
    largest_certified,
    largest_statistical,
    largest_unrefuted,
)
from cimrobust.tolerance_sweep.sweep_tolerances import SweepContext, draw_chips, prove, sweep_worst

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.montecarlo.trial_table import TrialTable
    from cimrobust.pipeline.inspection import Inspection
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import SweepOptions
    from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst


_MOST_TOLERANCES = 50
_RESUME = ".resume-sweep"


@dataclass(frozen=True, repr=False)
class Sweep(SavedResult):
    """A sweep and where its files are.

    Attributes:
        record: What sweep.json says.
        directory: Folder of sweep.json, sweep.html and, if asked for, witness/.
    """

    record: SweepModel
    directory: Path

    @property
    def html(self) -> Path:
        """The report."""
        return self.directory / SWEEP_REPORT

    def __repr__(self) -> str:
        """Say what was swept, in one line."""
        points = self.record.points
        return (
            f"<Sweep of {printable(self.record.model.name)}: {len(points)} tolerances,"
            f" {points[0].tolerance:.4g} to {points[-1].tolerance:.4g}, worst found"
            f" {score_text(points[0].worst_found.score)} to"
            f" {score_text(points[-1].worst_found.score)}, in {printable(self.directory)}>"
        )

    def _repr_html_(self) -> str:
        """Show the scores at every tolerance in a notebook."""
        rows = [
            (
                f"{100 * point.tolerance:.4g} %",
                score_text(point.monte_carlo.mean),
                score_text(point.worst_found.score),
                score_text(point.certified.score),
            )
            for point in self.record.points
        ]
        return notebook_view(
            f"{self.record.model.name}: {self.record.metric.name} by tolerance",
            rows,
            columns=("tolerance", "average chip", "worst chip found", "certified"),
            place=self.html,
        )


@takes_settings(commands.SWEEP)
@folder_optional
@takes_objects
@keeps_limits(commands.SWEEP)
def sweep(
    model: ModelLike,
    *,
    data: DataLike,
    out: str | Path | None = None,
    tolerances: Sequence[float],
    example_input: Any = None,
    settings: SweepSettings | SweepOptions | None = None,
    run: Run | None = None,
    **options: Unpack[SweepOptions],
) -> Sweep:
    """Find the worst chip, draw chips and certify at several write-verify tolerances.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: As for `analyze`.
        out: Folder for sweep.json and sweep.html; made if missing. Without it they are in a private
            folder, which is removed with the result; its `save` keeps them.
        tolerances: Write-verify tolerances in place of the profile's, fractions of the conductance
            range; sorted, each once. Layers with a tolerance of their own
            keep its ratio to the profile's.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    given = gather(commands.SWEEP, settings, run, options)
    chosen = given.part(SweepSettings)
    asked = ResolvedSweep(
        subject=given.part(SubjectSettings, model=model, data=data),
        settings=chosen,
        run=given.run(),
        out=given_path(out),
        tolerances=_checked(tolerances),
        cluster=None if chosen.cluster is None else Address.parse(chosen.cluster),
    )
    clock = Clock()
    with clock.stage("load"):
        inspection = inspect_subject(asked.subject)
        runtime = open_subject(asked.subject, inspection, workers=asked.run.workers)
    return sweep_opened(asked, inspection, runtime, clock)


def sweep_opened(
    asked: ResolvedSweep,
    inspection: Inspection,
    runtime: Runtime,
    clock: Clock,
    *,
    for_workers: ForWorkers | None = None,
) -> Sweep:
    """Sweep a network that is open; writes its files.

    Args:
        asked: What to do.
        inspection: The network and where it is stored.
        runtime: The deployed network and its data.
        clock: Times the stages.
        for_workers: How workers of a cluster open it; None: from the files that the user named.

    Raises:
        CimrobustError: The folder cannot be written to, or a check of the tool's own fails.
    """
    run = asked.run
    with clock.stage("load"):
        context = _context(Subject(runtime, inspection.placement), run, asked)
    opened_by = for_workers or partial(recipe_of, asked.subject)
    worst, tables, proofs, safe = _stages(context, asked, clock, opened_by)
    run.progress.finish()
    evidence = SweepEvidence(
        network=inspection.network,
        placement=inspection.placement,
        runtime=runtime,
        worst=worst,
        tables=tables,
        proofs=proofs,
        safe=safe,
        witnesses={},
        effort=run.effort,
        settings=asked.stated(),
        device_argument=str(asked.subject.device),
        data_argument=str(asked.subject.data),
        timings=Timings.of(run.workers, clock.stages),
    )
    made = _write(asked.out, inspection, context, evidence, witnesses=asked.settings.witnesses)
    shutil.rmtree(asked.out / _RESUME, ignore_errors=True)
    write_manifest(asked.out)
    return made


def _context(subject: Subject, run: Run, asked: ResolvedSweep) -> SweepContext:
    """Return what is swept, with what an interrupted run has finished if it goes on from one."""
    folder = resume_folder(asked.out, _RESUME, resume=asked.settings.resume)
    fingerprint = digest_of([run_digest(subject, run), tuple(asked.tolerances)])
    return SweepContext(subject, run, FinishedParts(folder, fingerprint))


def _stages(
    context: SweepContext, asked: ResolvedSweep, clock: Clock, for_workers: ForWorkers
) -> tuple[tuple[Worst, ...], dict[float, TrialTable], dict[float, Proof], SafeTolerances | None]:
    """Search, draw and certify at every tolerance; find the largest that meet a requirement.

    Searches go on from each other, so they stay in this process.
    """
    grid, require, trials = asked.tolerances, asked.settings.require, asked.num_trials
    with clock.stage("search"):
        worst = sweep_worst(context, grid)
    with executor_of(asked.cluster, for_workers, context.subject, context.run) as executor:
        context = replace(context, executor=executor)
        with clock.stage("monte_carlo"):
            tables = {
                tolerance: draw_chips(context, tolerance, trials=trials) for tolerance in grid
            }
        with clock.stage("certify"):
            proofs = _proofs(context, worst)
        with clock.stage("safe_tolerances"):
            safe = (
                None if require is None else _safe(context, worst, tables, proofs, require, trials)
            )
    return worst, tables, proofs, safe


def _proofs(context: SweepContext, worst: Sequence[Worst]) -> dict[float, Proof]:
    """Return what is proven at every tolerance.

    A sample that fails at one is not tried at the next.
    """
    proofs: dict[float, Proof] = {}
    below: Proof | None = None
    for entry in worst:
        below = prove(context, entry, below=below)
        proofs[entry.tolerance] = below
    return proofs


def _safe(
    context: SweepContext,
    worst: Sequence[Worst],
    tables: Mapping[float, TrialTable],
    proofs: Mapping[float, Proof],
    require: float,
    trials: int,
) -> SafeTolerances:
    task = context.subject.runtime.task
    return safe_tolerances(
        require,
        unrefuted=largest_unrefuted(context, worst, require),
        statistical=largest_statistical(context, tables, require, trials),
        certified=largest_certified(context, worst, proofs, require),
        metric=task.metric,
        higher_is_better=task.higher_is_better,
    )


def _write(
    out: Path,
    inspection: Inspection,
    context: SweepContext,
    evidence: SweepEvidence,
    *,
    witnesses: bool,
) -> Sweep:
    """Write all files beside their final names, then move them there, sweep.json last."""
    digests: dict[float, dict[str, str]] = {}
    with staging_folder(out) as made:
        for worst in evidence.worst if witnesses else ():
            name = repr(worst.tolerance)
            subject = context.at(worst.tolerance)
            (made / WITNESS / name).mkdir(parents=True)
            write_witness(made / WITNESS / name, subject.runtime, subject.box, worst.pattern)
            files = sorted((made / WITNESS / name).iterdir())
            digests[worst.tolerance] = {
                f"{WITNESS}/{name}/{path.name}": sha256_of(path) for path in files
            }
        complete = SweepEvidence(**{**evidence.__dict__, "witnesses": digests})
        found = assemble_sweep(complete)
        atomic_text(made / SWEEP_REPORT, render_sweep(found))
        (out / SWEEP).unlink(missing_ok=True)
        remove_seal(out)
        shutil.rmtree(out / WITNESS, ignore_errors=True)
        if witnesses:
            (made / WITNESS).replace(out / WITNESS)
        (made / SWEEP_REPORT).replace(out / SWEEP_REPORT)
        atomic_text(out / SWEEP, canonical_json(found))
    return Sweep(found, out)


def _checked(tolerances: Sequence[float]) -> list[float]:
    """Return the tolerances sorted, each once."""
    try:
        grid = sorted({float(tolerance) for tolerance in tolerances})
    except (TypeError, ValueError) as err:
        raise UsageError(
            f"tolerances must be a sequence of numbers, got {tolerances!r} (--tolerances); give a"
            " list of fractions"
        ) from err
    if not grid or not all(0 < tolerance <= 1 for tolerance in grid):
        wrong = next((tolerance for tolerance in grid if not 0 < tolerance <= 1), "none")
        raise UsageError(
            f"tolerances must be above 0 and at most 1, got {wrong} (--tolerances); give fractions"
            " of the conductance range, e.g. 0.005,0.01,0.03"
        )
    if len(grid) > _MOST_TOLERANCES:
        raise UsageError(
            f"tolerances must be at most {_MOST_TOLERANCES}, got {len(grid)} (--tolerances); sweep"
            " in parts"
        )
    return grid
