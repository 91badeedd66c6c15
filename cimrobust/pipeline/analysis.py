"""The whole job: from a model file to a certificate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cimrobust.certificate.manifest import write_manifest
from cimrobust.certificate.models import Timings
from cimrobust.certificate.result import Certificate
from cimrobust.pipeline import stages
from cimrobust.pipeline.analysis_settings import DEFAULT_EFFORT, Request, Settings, resolve
from cimrobust.pipeline.arguments import make_folder
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.opened_item import Item
from cimrobust.pipeline.writing import Findings, write_files
from cimrobust.progress import NullProgress, Progress


def analyze(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    digital: Sequence[str] = (),
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
    issued: str | None = None,
    resume: bool = False,
    device_type: str = "cpu",
    progress: Progress | None = None,
) -> Certificate:
    """Find the worst chip that the device tolerance allows for a model, and write a certificate.

    Args:
        model: ONNX file.
        data: Data description, .npz, .csv, folder of ONNX test data, or ``module:function``.
        out: Folder for certificate.json, certificate.html, witness/ and trials.parquet; made if
            missing.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's, fraction of the conductance
            range.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        effort: ``quick``, ``standard`` or ``thorough``.
        trials: Chips to draw; None: 300, 1000 or 10000 by effort.
        seed: Seed of every random number.
        workers: Threads; no result depends on it. None: all processors.
        limit: Use the first so many samples.
        policy: Policy file that the verdict is given against.
        stop_early: Stop drawing chips as soon as the policy's percentile requirements are decided,
            by a rule that holds whenever it stops; `trials` is then the
            most, by default at least ten times the fewest that can pass.
        rare_below: Estimate how likely a chip is that misses this score, by multilevel splitting.
        rare_budget: Chips that each of its two repeats may evaluate; None: 40000.
        skip_most_probable: Leave out the search for the most probable chip that misses that score.
        calibration: Data that converters take their ranges from, for profiles with converters.
            None: the description's train_file, else samples at the end of
            `data`, which are then not evaluated.
        diagnostics: ``all``, ``none`` or names separated by commas, see
            `cimrobust.diagnose.diagnostic_catalogue`; None: none at effort quick, all at others.
        safety_class: Class whose recall alone gets a search of its own; None: the policy's, if it
            names one.
        transfer: Certificate folder of another network with the same layers, whose witness is
            scored with the patterns found here.
        labels_of: Network whose clean decisions are the labels of data that have none; None: the
            model itself.
        issued: Day of issue that the certificate states, YYYY-MM-DD; None: none. No clock is read,
            so that the same command gives the same bytes.
        resume: Take over the trials of an interrupted run of the same command.
        device_type: Where the search computes gradients, ``cpu`` or ``cuda``; every score is
            onnxruntime's, on the processor.
        progress: Told how far the work is.

    Raises:
        CimrobustError: See its subclasses for what can be wrong; nothing is written then.
    """
    request = Request(
        item=Item(
            model,
            data,
            device,
            tolerance=tolerance,
            digital=digital,
            limit=limit,
            calibration=calibration,
            labels_of=labels_of,
        ),
        out=Path(out),
        effort=effort,
        trials=trials,
        seed=seed,
        workers=workers,
        policy=policy,
        stop_early=stop_early,
        rare_below=rare_below,
        rare_budget=rare_budget,
        skip_most_probable=skip_most_probable,
        diagnostics=diagnostics,
        safety_class=safety_class,
        transfer=transfer,
        issued=issued,
        resume=resume,
        device_type=device_type,
    )
    return _certificate(resolve(request), progress or NullProgress())


def _certificate(settings: Settings, progress: Progress) -> Certificate:
    """Do what was asked for, stage by stage, and write it down."""
    clock, out = Clock(), settings.request.out
    make_folder(out)
    with clock.stage("load"):
        run = stages.open_run(settings, progress)
    findings = run_stages(run, clock)
    written = write_files(run, findings, Timings.of(settings.workers, clock.stages))
    shutil.rmtree(out / stages.CHECKPOINTS, ignore_errors=True)
    write_manifest(out)
    return Certificate(written, out)


def run_stages(run: stages.Run, clock: Clock) -> Findings:
    """Run the stages of an opened run in their order.

    What one finds, later ones start from or are checked against.
    """
    rare, likely = None, None
    rare_below, likely_below = run.request.rare_below, run.settings.most_probable_below
    with clock.stage("monte_carlo"):
        trials = stages.draw_chips(run)
    if rare_below is not None:
        with clock.stage("rare_failures"):
            rare = stages.estimate_rare(run, rare_below)
    with clock.stage("search"):
        found = stages.search_box(run, trials)
    with clock.stage("diagnostics"):
        diagnosis = stages.explain(run, found)
    if likely_below is not None:
        with clock.stage("most_probable"):
            likely = stages.search_most_probable(run, diagnosis.found, likely_below)
    with clock.stage("certify"):
        certification = stages.certify(run, trials, diagnosis)
    with clock.stage("effects"):
        effects = stages.tabulate_effects(run)
    return Findings(trials, diagnosis, certification, effects, rare, likely)
