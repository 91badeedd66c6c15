"""The whole job: from a model file to a certificate."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cimrobust.certificate.assemble import assemble
from cimrobust.certificate.evidence import Evidence, RunSetting, RunTimings
from cimrobust.certificate.files import CERTIFICATE, CERTIFIED, REPORT, TRIALS, WITNESS, atomic_text, canonical_json, check_certificate
from cimrobust.certificate.policy import EFFORTS, Policy, read_policy, stop_rule
from cimrobust.certify import per_sample
from cimrobust.certify.summary import Certification, certify_run
from cimrobust.data.calibration import load_samples
from cimrobust.data.decision import Score
from cimrobust.diagnose.catalogue import chosen
from cimrobust.diagnose.protocol import Diagnosis
from cimrobust.diagnose.run import diagnose
from cimrobust.diagnose.safety import check_safety_class
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.ort import run_original
from cimrobust.engine.teacher import labelled_by
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import SelfCheckError, UsageError
from cimrobust.files import sha256_of
from cimrobust.graph.load import load_network
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.effects import EffectRow, add_effects
from cimrobust.montecarlo.failing import RareFailures, rare_failures
from cimrobust.montecarlo.table import TrialTable, to_parquet
from cimrobust.montecarlo.trials import run_trials
from cimrobust.pipeline.diagnosing import check_unbroken, diagnose_settings, write_safety_witness
from cimrobust.pipeline.inspection import Inspection, inspect_model
from cimrobust.pipeline.rare import splitting
from cimrobust.progress import NullProgress, Progress
from cimrobust.report.render import render
from cimrobust.search.box import Pattern, box_of
from cimrobust.search.chip_file import CHIP_FILE, write_chip
from cimrobust.search.device_witness import write_device_witness
from cimrobust.search.ensemble import search
from cimrobust.search.likely import LikelySearch
from cimrobust.search.most_probable import most_probable as search_most_probable
from cimrobust.search.protocol import SearchResult
from cimrobust.search.transfer import transferred_pattern
from cimrobust.search.witness import SAFETY_FILE, write_witness

DEFAULT_EFFORT = "standard"
DEFAULT_TRIALS = {"quick": 300, "standard": 1000, "thorough": 10_000}
#: Chips for every row of the table of effects.
EFFECT_CHIPS = {"quick": 20, "standard": 50, "thorough": 200}
_CHECKPOINTS = ".resume"


@dataclass(frozen=True)
class Certificate:
    """A certificate and where its files are.

    Attributes:
        data: As in certificate.json.
        directory: Folder of certificate.json, certificate.html, witness/, trials.parquet and, where samples are certified, certified.parquet.
    """

    data: dict[str, Any]
    directory: Path

    @property
    def verdict(self) -> str:
        """The verdict word."""
        return str(self.data["verdict"]["word"])

    @property
    def html(self) -> Path:
        """The report."""
        return self.directory / REPORT


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        started = time.perf_counter()
        yield
        self.stages[name] = time.perf_counter() - started


def analyze(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    effort: str = DEFAULT_EFFORT,
    trials: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    policy: str | Path | None = None,
    stop_early: bool = False,
    rare_below: float | None = None,
    rare_budget: int | None = None,
    skip_most_probable: bool = False,
    calibration: str | Path | None = None,
    diagnostics: str | None = None,
    safety_class: int | None = None,
    transfer: str | Path | None = None,
    labels_of: str | Path | None = None,
    resume: bool = False,
    device_type: str = "cpu",
    progress: Progress | None = None,
) -> Certificate:
    """Find the worst chip that the device tolerance allows for a model, and write a certificate.

    Args:
        model: ONNX file.
        data: Data description, .npz, .csv, folder of ONNX test data, or ``module:function``.
        out: Folder for certificate.json, certificate.html, witness/ and trials.parquet; made if missing.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's, fraction of the conductance range.
        effort: ``quick``, ``standard`` or ``thorough``.
        trials: Chips to draw; None: 300, 1000 or 10000 by effort.
        seed: Seed of every random number.
        workers: Threads; no result depends on it. None: all processors.
        limit: Use the first so many samples.
        policy: Policy file that the verdict is given against.
        stop_early: Stop drawing chips as soon as the policy's percentile requirements are decided, by a rule that holds whenever it stops; `trials` is then the
            most, by default at least ten times the fewest that can pass.
        rare_below: Estimate how likely a chip is that misses this score, by multilevel splitting.
        rare_budget: Chips that each of its two repeats may evaluate; None: 40000.
        skip_most_probable: Leave out the search for the most probable chip that misses that score.
        calibration: Data that converters take their ranges from, for profiles with converters. None: the description's train_file, else samples at the end of
            `data`, which are then not evaluated.
        diagnostics: ``all``, ``none`` or names separated by commas, see `cimrobust.diagnose.catalogue`; None: none at effort quick, all at others.
        safety_class: Class whose recall alone gets a search of its own; None: the policy's, if it names one.
        transfer: Certificate folder of another network with the same layers, whose witness is scored with the patterns found here.
        labels_of: Network whose clean decisions are the labels of data that have none; None: the model itself.
        resume: Take over the trials of an interrupted run of the same command.
        device_type: Where the search computes gradients, ``cpu`` or ``cuda``; every score is onnxruntime's, on the processor.
        progress: Told how far the work is.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    _check(effort, tolerance, trials=trials, seed=seed, workers=workers, limit=limit)
    open_device(device_type)
    progress, clock, out = progress or NullProgress(), Clock(), Path(out)
    threads = workers or available_processors()
    required = None if policy is None else read_policy(Path(policy))
    num_trials = trials or DEFAULT_TRIALS[effort]
    if stop_early:
        num_trials = _most_trials(required, trials, effort)
    if rare_budget is not None and rare_below is None:
        raise UsageError("budget for rare failures needs a score that chips may miss, got none (--rare-budget); give --rare-below too")
    names = chosen(diagnostics, effort=effort)
    _require_folder(out)
    calibration_argument = None if calibration is None else str(calibration)
    with clock.stage("load"):
        progress.start("Loading and checking", 2)
        inspection = inspect_model(model, device=str(device), tolerance=tolerance)
        progress.advance()
        dataset, calibrating = load_samples(
            data,
            calibration_argument,
            inputs=inspection.network.inputs,
            limit=limit,
            needs_calibration=inspection.placement.profile.needs_kernel,
        )
        if labels_of is not None:
            dataset = labelled_by(load_network(Path(labels_of)), dataset, workers=threads)
        runtime = open_network(inspection.network, inspection.scan, inspection.placement, dataset, calibration=calibrating, workers=threads)
        asked = diagnose_settings(
            required, safety_class, effort=effort, seed=seed, workers=threads, device_type=device_type, progress=progress
        )
        if asked.safety_class is not None:
            check_safety_class(runtime.task, asked.safety_class)
        progress.finish()
    with clock.stage("monte_carlo"):
        checkpoint = _checkpoint(out, resume=resume)
        stop = stop_rule(required, higher_is_better=runtime.task.higher_is_better) if stop_early and required is not None else None
        table = run_trials(
            runtime,
            inspection.placement,
            num_trials=num_trials,
            seed=seed,
            workers=threads,
            checkpoint=checkpoint,
            stop=stop,
            progress=progress,
        )
    rare = None
    if rare_below is not None:
        with clock.stage("rare_failures"):
            rare = rare_failures(
                runtime,
                inspection.placement,
                below=rare_below,
                settings=splitting(rare_budget),
                seed=seed,
                workers=threads,
                progress=progress,
            )
    with clock.stage("search"):
        drawn = {"worst_drawn_chip": _drawn_pattern(inspection.placement, seed=seed, trial=table.worst_trial)}
        if transfer is not None:
            drawn["transferred_witness"] = transferred_pattern(Path(transfer) / WITNESS, inspection.placement)
        found = search(
            runtime,
            inspection.placement,
            effort=effort,
            seed=seed,
            workers=threads,
            progress=progress,
            known=drawn,
            device_type=device_type,
        )
    with clock.stage("diagnostics"):
        diagnosis = diagnose(runtime, inspection.scan, inspection.placement, found, names, asked)
        found = diagnosis.found
    likely = None
    if rare_below is not None and not skip_most_probable:
        with clock.stage("most_probable"):
            likely = search_most_probable(
                runtime,
                inspection.placement,
                below=rare_below,
                effort=effort,
                seed=seed,
                workers=threads,
                known={"worst chip found": found.deviations},
                device_type=device_type,
                progress=progress,
            )
    with clock.stage("certify"):
        worst = runtime.outputs(box_of(inspection.placement).weights(found.deviations), threads=threads)
        certification = certify_run(runtime, inspection.placement, effort=effort, worst_output=worst, workers=threads, progress=progress)
        _check_certified(certification, table, found)
        check_unbroken(certification, diagnosis)
    with clock.stage("effects"):
        effects = add_effects(
            runtime,
            inspection.scan,
            inspection.placement,
            num_chips=min(EFFECT_CHIPS[effort], num_trials),
            seed=seed,
            workers=threads,
            progress=progress,
        )
    settings = (
        RunSetting("effort", effort, effort == DEFAULT_EFFORT),
        RunSetting("trials", num_trials, trials is None),
        RunSetting("seed", seed, seed == 0),
        RunSetting("limit", limit, limit is None),
        RunSetting("tolerance", tolerance, tolerance is None),
        RunSetting("calibration", None if calibration_argument is None else Path(calibration_argument).name, calibration_argument is None),
        RunSetting("diagnostics", diagnostics, diagnostics is None),
        RunSetting("safety-class", asked.safety_class, asked.safety_class is None),
        RunSetting("rare-below", rare_below, rare_below is None),
        RunSetting("rare-budget", rare_budget, rare_budget is None),
        RunSetting("skip-most-probable", skip_most_probable, not skip_most_probable),
        RunSetting("stop-early", stop_early, not stop_early),
        RunSetting("device-type", device_type, device_type == "cpu"),
        RunSetting("labels-of", None if labels_of is None else Path(labels_of).name, labels_of is None),
        RunSetting("transfer", None if transfer is None else Path(transfer).name, transfer is None),
        RunSetting("policy", None if policy is None else Path(policy).name, policy is None),
    )
    arguments = (str(device), str(data))
    certificate = _write(
        out,
        inspection,
        runtime,
        table,
        found,
        certification,
        effects,
        rare,
        diagnosis,
        likely,
        settings,
        arguments,
        required,
        RunTimings(threads, clock.stages),
    )
    shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)
    return certificate


def available_processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(
    out: Path,
    inspection: Inspection,
    runtime: Runtime,
    table: TrialTable,
    found: SearchResult,
    certification: Certification,
    effects: tuple[EffectRow, ...],
    rare: RareFailures | None,
    diagnosis: Diagnosis,
    likely: LikelySearch | None,
    settings: tuple[RunSetting, ...],
    arguments: tuple[str, str],
    policy: Policy | None,
    timings: RunTimings,
) -> Certificate:
    """Write all files beside their final names, then move them there, certificate.json last."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        made = Path(folder)
        (made / WITNESS).mkdir()
        write_witness(made / WITNESS, runtime, box_of(inspection.placement), found.deviations)
        chip = made / WITNESS / CHIP_FILE
        if likely is not None and likely.chip is not None:
            write_chip(chip, likely)
        devices = write_device_witness(made / WITNESS, inspection.placement, found.deviations)
        write_safety_witness(made / WITNESS, inspection.placement, diagnosis)
        worst_output = _worst_output(made / WITNESS / "worst_case.onnx", runtime, inspection.placement, found, timings.workers)
        to_parquet(table, made / TRIALS)
        proven = per_sample.per_sample(certification, inspection.placement.profile.tolerance_fraction())
        if proven is not None:
            per_sample.to_parquet(proven, made / CERTIFIED)
        evidence = Evidence(
            network=inspection.network,
            scan=inspection.scan,
            placement=inspection.placement,
            runtime=runtime,
            trials=table,
            search=found,
            certification=certification,
            effects=effects,
            worst_output=worst_output,
            witness={f"{WITNESS}/{path.name}": sha256_of(path) for path in sorted((made / WITNESS).iterdir()) if path != chip},
            devices=devices,
            settings=settings,
            device_argument=arguments[0],
            data_argument=arguments[1],
            timings=timings,
            rare=rare,
            diagnosis=diagnosis,
            likely=likely,
            likely_digest=sha256_of(chip) if chip.exists() else None,
        )
        certificate = assemble(evidence, policy)
        check_certificate(certificate)
        atomic_text(made / REPORT, render(certificate))
        (out / CERTIFICATE).unlink(missing_ok=True)
        (out / WITNESS).mkdir(exist_ok=True)
        (out / WITNESS / CHIP_FILE).unlink(missing_ok=True)
        (out / WITNESS / SAFETY_FILE).unlink(missing_ok=True)
        for path in sorted((made / WITNESS).iterdir()):
            path.replace(out / WITNESS / path.name)
        (out / CERTIFIED).unlink(missing_ok=True)
        for name in (TRIALS, REPORT, *([] if proven is None else [CERTIFIED])):
            (made / name).replace(out / name)
        atomic_text(out / CERTIFICATE, canonical_json(certificate))
    return Certificate(certificate, out)


def _run_witness(path: Path, runtime: Runtime, workers: int) -> np.ndarray:
    """Return the decision output of the witness file on all samples, run plainly."""
    witness = load_network(path)
    return run_original(witness, runtime.dataset.inputs, runtime.dataset.constants, output=runtime.engine.output, threads=workers)


def _worst_output(path: Path, runtime: Runtime, placement: Placement, found: SearchResult, workers: int) -> np.ndarray:
    """Return the decision output of the worst chip on all samples: of the witness file, or with converters of the kernel.

    Raises:
        SelfCheckError: The witness file, or the kernel, does not give the score reported.
    """
    output = _run_witness(path, runtime, workers)
    _self_check(runtime, found.file_score, output, "witness/worst_case.onnx")
    if runtime.converters is None:
        return output
    output = runtime.outputs(box_of(placement).weights(found.deviations), threads=workers)
    _self_check(runtime, found.score, output, "crossbar kernel")
    return output


def _drawn_pattern(placement: Placement, *, seed: int, trial: int) -> Pattern:
    """Return the deviations of a drawn chip."""
    chip = program_chip(placement, seed=seed, trial=trial)
    return {name: chip[name] - tensor.nominal for name, tensor in placement.tensors.items()}


def _self_check(runtime: Runtime, reported: Score, output: np.ndarray, where: str) -> None:
    """Raise SelfCheckError unless an output gives the reported score."""
    again = runtime.task.score(output)
    if again != reported:
        raise SelfCheckError(f"worst chip must score what was reported, {reported.value}, got {again.value} ({where}); report this")


def _most_trials(policy: Policy | None, trials: int | None, effort: str) -> int:
    """Return the most trials of a run that may stop early."""
    if policy is None:
        raise UsageError(
            "a run that may stop early needs a policy to decide, got none (--stop-early); give --policy with a kpp requirement"
        )
    rule = stop_rule(policy, higher_is_better=True)
    if trials is None:
        return max(DEFAULT_TRIALS[effort], 10 * rule.needed_trials)
    rule.check(trials)
    return trials


def _check_certified(certification: Certification, table: TrialTable, found: SearchResult) -> None:
    """Raise SelfCheckError if a chip of the box scores worse than what is certified for all of them."""
    if certification.score is None:
        return
    pick = min if table.higher_is_better else max
    worst = pick(table.worst_value, found.score.value)
    if pick(worst, certification.score.value) != certification.score.value:
        raise SelfCheckError(f"no chip of the box may score worse than the certified {certification.score.value}, got {worst}; report this")


def _checkpoint(out: Path, *, resume: bool) -> Path:
    """Return the file that trials are kept in, empty unless the run goes on from an interrupted one."""
    folder = out / _CHECKPOINTS
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return folder / "trials"


def _require_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise UsageError(f"output folder must be writable, got {err.strerror} ({out}, --out); choose another folder") from err


def _check(effort: str, tolerance: float | None, **counts: int | None) -> None:
    if effort not in EFFORTS:
        raise UsageError(f"effort must be one of {', '.join(EFFORTS)}, got '{effort}' (--effort); choose one of them")
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise UsageError(f"tolerance must be in [0, 1], got {tolerance} (--tolerance); give it as a fraction of the conductance range")
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if value is not None and value < least:
            raise UsageError(f"{name} must be at least {least}, got {value} (--{name}); give a larger number")
