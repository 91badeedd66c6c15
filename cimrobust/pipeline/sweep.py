"""A sweep over write-verify tolerances: from a model file to sweep.json and sweep.html."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cimrobust import __version__
from cimrobust.attack.diagnosis_protocol import Settings
from cimrobust.certificate.assemble_sweep import SweepEvidence, assemble_sweep
from cimrobust.certificate.certificate_files import atomic_text, canonical_json
from cimrobust.certificate.manifest import remove_seal, write_manifest
from cimrobust.certificate.models import Setting, Timings
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.safe_statements import Safe
from cimrobust.counts import check_number
from cimrobust.engine.open import Runtime
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.mapping.box import box_of
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import fingerprint
from cimrobust.pipeline.arguments import (
    available_processors,
    check_counts,
    check_effort,
    resume_folder,
    stored,
    stored_each,
    stored_file,
)
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.opened_item import Item
from cimrobust.progress import NullProgress, Progress
from cimrobust.report.sweep_page import render_sweep
from cimrobust.search.witness import write_witness
from cimrobust.tolerance_sweep.safe_tolerance import (
    largest_certified,
    largest_statistical,
    largest_unrefuted,
)
from cimrobust.tolerance_sweep.sweep_memory import Memory
from cimrobust.tolerance_sweep.sweep_tolerances import Subject, draw_chips, prove, sweep_worst
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst

SWEEP, SWEEP_REPORT, WITNESSES = "sweep.json", "sweep.html", "witness"
DEFAULT_EFFORT = "quick"
DEFAULT_TRIALS = {"quick": 300, "standard": 1000, "thorough": 3000}
_MOST_TOLERANCES = 50
_RESUME = ".resume-sweep"


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What a sweep was asked for, checked; attributes as the arguments of `cimrobust.sweep`.

    Tolerances are ascending, each once.
    """

    data: str | Path
    out: Path
    tolerances: Sequence[float]
    device: str | Path
    digital: Sequence[str]
    effort: str
    trials: int | None
    require: float | None
    seed: int
    workers: int
    limit: int | None
    calibration: str | Path | None
    witnesses: bool
    resume: bool
    device_type: str

    @property
    def num_trials(self) -> int:
        """Chips drawn at every tolerance."""
        return self.trials or DEFAULT_TRIALS[self.effort]

    def stated(self) -> tuple[Setting, ...]:
        """Return what sweep.json says of how it was made."""
        return (
            Setting(
                key="tolerances",
                value=",".join(f"{tolerance:g}" for tolerance in self.tolerances),
                is_default=False,
            ),
            *stored_each("digital", self.digital),
            stored("effort", self.effort, default=DEFAULT_EFFORT),
            Setting(key="trials", value=self.num_trials, is_default=self.trials is None),
            stored("require", self.require),
            stored("seed", self.seed, default=0),
            stored("limit", self.limit),
            stored_file("calibration", self.calibration),
            stored("witnesses", self.witnesses, default=False),
        )


@dataclass(frozen=True)
class Sweep:
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


def sweep(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    tolerances: Sequence[float],
    device: str | Path = "rram-write-verify-3pct",
    digital: Sequence[str] = (),
    effort: str = DEFAULT_EFFORT,
    trials: int | None = None,
    require: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    calibration: str | Path | None = None,
    witnesses: bool = False,
    resume: bool = False,
    device_type: str = "cpu",
    progress: Progress | None = None,
) -> Sweep:
    """Find the worst chip, draw chips and certify at several write-verify tolerances.

    Args:
        model: ONNX file.
        data: As for `analyze`.
        out: Folder for sweep.json and sweep.html; made if missing.
        tolerances: Write-verify tolerances in place of the profile's, fractions of the conductance
            range; sorted, each once. Layers with a tolerance of their own
            keep its ratio to the profile's.
        device: Name of a shipped device profile, or a TOML file.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        effort: ``quick``, ``standard`` or ``thorough``, of the search at every tolerance.
        trials: Chips to draw at every tolerance; None: 300, 1000 or 3000 by effort.
        require: Score that a chip has to reach (an error it may not exceed): the largest tolerances
            at which that is unrefuted, statistically met and certified
            are looked for by bisection.
        seed: Seed of every random number.
        workers: Threads; no result depends on it. None: all processors.
        limit: Use the first so many samples.
        calibration: As for `analyze`.
        witnesses: Write the worst chip of every tolerance too.
        resume: Take over what an interrupted run of the same command finished.
        device_type: Where the search computes gradients, ``cpu`` or ``cuda``.
        progress: Told how far the work is.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    check_counts(workers=workers, limit=limit)
    check_counts(seed=seed, least=0)
    check_number("require", require)
    grid = _checked(tolerances, effort, trials)
    asked = SweepRequest(
        data=data,
        out=Path(out),
        tolerances=grid,
        device=device,
        digital=tuple(digital),
        effort=effort,
        trials=trials,
        require=require,
        seed=seed,
        workers=workers or available_processors(),
        limit=limit,
        calibration=calibration,
        witnesses=witnesses,
        resume=resume,
        device_type=device_type,
    )
    item = Item(model, data, device, digital=digital, limit=limit, calibration=calibration)
    clock = Clock()
    with clock.stage("load"):
        inspection = item.inspect()
        runtime = item.open(inspection, workers=asked.workers)
    return sweep_opened(asked, inspection, runtime, clock, progress or NullProgress())


def sweep_opened(
    asked: SweepRequest, inspection: Inspection, runtime: Runtime, clock: Clock, progress: Progress
) -> Sweep:
    """Sweep a network that is open; writes its files.

    Args:
        asked: What to do.
        inspection: The network and where it is stored.
        runtime: The deployed network and its data.
        clock: Times the stages.
        progress: Told of every step.

    Raises:
        CimrobustError: The folder cannot be written to, or a check of the tool's own fails.
    """
    settings = Settings(
        asked.effort,
        asked.seed,
        asked.workers,
        progress,
        required=asked.require,
        device_type=asked.device_type,
    )
    with clock.stage("load"):
        subject = _subject(inspection, runtime, settings, asked)
    worst, tables, proofs, safe = _stages(
        subject, asked.tolerances, asked.require, asked.num_trials, clock
    )
    progress.finish()
    evidence = SweepEvidence(
        network=inspection.network,
        placement=inspection.placement,
        runtime=runtime,
        worst=worst,
        tables=tables,
        proofs=proofs,
        safe=safe,
        witnesses={},
        effort=asked.effort,
        settings=asked.stated(),
        device_argument=str(asked.device),
        data_argument=str(asked.data),
        timings=Timings.of(asked.workers, clock.stages),
    )
    made = _write(asked.out, inspection, subject, evidence, witnesses=asked.witnesses)
    shutil.rmtree(asked.out / _RESUME, ignore_errors=True)
    write_manifest(asked.out)
    return made


def _subject(
    inspection: Inspection, runtime: Runtime, settings: Settings, asked: SweepRequest
) -> Subject:
    """Return what is swept, with the memory of an interrupted run of the same if it goes on from one."""
    key = {
        "trials": fingerprint(runtime, inspection.placement, settings.seed),
        "grid": asked.tolerances,
        "effort": settings.effort,
        "device": settings.device_type,
    }
    return Subject(
        runtime,
        inspection.scan,
        inspection.placement,
        settings,
        _memory(asked.out, key, resume=asked.resume),
    )


def _stages(
    subject: Subject, grid: Sequence[float], require: float | None, trials: int, clock: Clock
) -> tuple[tuple[Worst, ...], dict[float, TrialTable], dict[float, Proof], Safe | None]:
    """Search, draw and certify at every tolerance, then look for the largest ones that meet a requirement."""
    with clock.stage("search"):
        worst = sweep_worst(subject, grid)
    with clock.stage("monte_carlo"):
        tables = {tolerance: draw_chips(subject, tolerance, trials=trials) for tolerance in grid}
    with clock.stage("certify"):
        proofs = _proofs(subject, worst)
    with clock.stage("safe_tolerances"):
        safe = None if require is None else _safe(subject, worst, tables, proofs, require, trials)
    return worst, tables, proofs, safe


def _proofs(subject: Subject, worst: Sequence[Worst]) -> dict[float, Proof]:
    """Return what is proven at every tolerance.

    A sample that fails at one is not tried at the next.
    """
    proofs: dict[float, Proof] = {}
    below: Proof | None = None
    for entry in worst:
        below = prove(subject, entry, below=below)
        proofs[entry.tolerance] = below
    return proofs


def _safe(
    subject: Subject,
    worst: Sequence[Worst],
    tables: Mapping[float, TrialTable],
    proofs: Mapping[float, Proof],
    require: float,
    trials: int,
) -> Safe:
    return Safe(
        required=require,
        unrefuted=largest_unrefuted(subject, worst, require),
        statistical=largest_statistical(subject, tables, require, trials),
        certified=largest_certified(subject, worst, proofs, require),
    )


def _write(
    out: Path, inspection: Inspection, subject: Subject, evidence: SweepEvidence, *, witnesses: bool
) -> Sweep:
    """Write all files beside their final names, then move them there, sweep.json last."""
    digests: dict[float, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        made = Path(folder)
        for worst in evidence.worst if witnesses else ():
            name = repr(worst.tolerance)
            runtime, placement = subject.at(worst.tolerance)
            (made / WITNESSES / name).mkdir(parents=True)
            write_witness(made / WITNESSES / name, runtime, box_of(placement), worst.pattern)
            files = sorted((made / WITNESSES / name).iterdir())
            digests[worst.tolerance] = {
                f"{WITNESSES}/{name}/{path.name}": sha256_of(path) for path in files
            }
        complete = SweepEvidence(**{**evidence.__dict__, "witnesses": digests})
        found = assemble_sweep(complete)
        atomic_text(made / SWEEP_REPORT, render_sweep(found))
        (out / SWEEP).unlink(missing_ok=True)
        remove_seal(out)
        shutil.rmtree(out / WITNESSES, ignore_errors=True)
        if witnesses:
            (made / WITNESSES).replace(out / WITNESSES)
        (made / SWEEP_REPORT).replace(out / SWEEP_REPORT)
        atomic_text(out / SWEEP, canonical_json(found))
    return Sweep(found, out)


def _checked(tolerances: Sequence[float], effort: str, trials: int | None) -> list[float]:
    """Return the tolerances sorted, each once."""
    grid = sorted({float(tolerance) for tolerance in tolerances})
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
    check_effort(effort)
    check_counts(trials=trials)
    return grid


def _memory(out: Path, key: Mapping[str, Any], *, resume: bool) -> Memory:
    """Return the memory of the run, empty unless it goes on from an interrupted one."""
    folder = resume_folder(out, _RESUME, resume=resume)
    text = json.dumps({**key, "version": __version__}, sort_keys=True)
    return Memory(folder, hashlib.sha256(text.encode()).hexdigest())
