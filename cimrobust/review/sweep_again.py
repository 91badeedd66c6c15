"""A sweep, computed again.

Its head, its witnesses and bounds, drawn chips, a search of the reviewer's own, the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate.assemble_sweep import (
    SweepEvidence,
    assemble_sweep,
    swept_chips,
    swept_proof,
)
from cimrobust.certificate.models.swept import SweepModel, SweptPoint, SweptProof
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import NOTHING_KEPT
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.stated_settings import restored
from cimrobust.pipeline.sweep import ResolvedSweep, sweep_opened
from cimrobust.pipeline.working_place import ForWorkers, executor_of
from cimrobust.review.agreement import NOT_DERIVED, RTOL, block_check
from cimrobust.review.differences import named
from cimrobust.review.machine_check import is_same_machine
from cimrobust.review.reopened import reopen_network
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.reviewers_workers import recipe_of_result
from cimrobust.review.second_search import much_worse
from cimrobust.review.stated_command import named_arguments
from cimrobust.review.stored_witness import stored_pattern, wrong_parts
from cimrobust.review.sweep_witnesses import witness_folder
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.witness import DEVIATIONS_FILE
from cimrobust.settings.commands import SWEEP
from cimrobust.settings.gathered import Gathered
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.sweep_settings import SweepSettings
from cimrobust.tolerance_sweep.sweep_tolerances import SweepContext, draw_chips, prove
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst

if TYPE_CHECKING:
    from cimrobust.review.at_the_reviewer import AtHand, Given
    from cimrobust.review.depth import Depth

# What is compared point by point, or follows from other parts of the file.
_POINTS = frozenset({"points", "safe", "safe_reason"})


@dataclass(frozen=True)
class Reopened:
    """A sweep, opened again.

    Attributes:
        asked: What it was asked for.
        inspection: The network and where it is stored.
        runtime: The deployed network and its data.
        context: What is swept.
        for_workers: How workers of a cluster open it.
    """

    asked: ResolvedSweep
    inspection: Inspection
    runtime: Runtime
    context: SweepContext
    for_workers: ForWorkers


def reopen_sweep(
    sweep: SweepModel, given: Given, at_hand: AtHand, folder: Path, depth: Depth
) -> Reopened:
    """Open a sweep again.

    Args:
        sweep: The sweep.
        given: What is at hand: the network, and samples with their labels.
        at_hand: The same, not loaded: what workers open.
        folder: Folder that a new run may write into.
        depth: How much is computed again.

    Raises:
        CimrobustError: Network, devices and samples do not go together, or the network fails a
            check of its own.
    """
    inspection, runtime = reopen_network(sweep, given, workers=depth.run.workers)
    asked = _asked(sweep, folder, depth)
    run = Run(asked.run.seed, depth.run.workers, asked.run.effort, progress=depth.run.progress)
    return Reopened(
        asked,
        inspection,
        runtime,
        SweepContext(Subject(runtime, inspection.placement), run, NOTHING_KEPT),
        partial(recipe_of_result, sweep, at_hand),
    )


def again_checks(
    directory: Path, sweep: SweepModel, opened: Reopened, depth: Depth
) -> list[ReplayCheck]:
    """Derive a sweep again.

    Args:
        directory: Folder of the sweep.
        sweep: What is claimed.
        opened: The sweep, opened again.
        depth: How much is computed again.
    """
    checks = [
        ReplayCheck(
            "reopened",
            True,
            "network, devices and samples go together and pass every self-check of a run",
        )
    ]
    checks += guarded("derived", lambda: list(_head(sweep, opened)))
    context = opened.context
    with executor_of(depth.cluster, opened.for_workers, context.subject, context.run) as executor:
        spread = replace(opened, context=replace(context, executor=executor))
        checks += guarded("derived points", lambda: list(_points(directory, sweep, spread)))
        checks += guarded("redrawn_chips", lambda: list(_redrawn(sweep, spread, depth)))
    checks += guarded("second_search", lambda: [_second_search(sweep, opened, depth)])
    checks += guarded("rerun", lambda: list(_rerun(sweep, opened, depth)))
    return checks


def _asked(sweep: SweepModel, folder: Path, depth: Depth) -> ResolvedSweep:
    """Return the request that a sweep states.

    Its tolerances are those of the points, which are exact.
    """
    run = depth.run
    defaults = {row.key for row in sweep.settings if row.is_default}
    named = named_arguments(sweep.command)
    trials = None if "trials" in defaults else sweep.points[0].monte_carlo.trials
    values = Gathered(
        SWEEP,
        restored(SWEEP, sweep.settings)
        | {
            "device": named.get("--device", ""),
            "trials": trials,
            "effort": sweep.effort,
            "workers": run.workers,
            "progress": run.progress,
        },
    )
    return ResolvedSweep(
        subject=values.part(SubjectSettings, model="", data=named.get("--data", "")),
        settings=values.part(SweepSettings),
        run=values.part(Run),
        out=folder,
        tolerances=[point.tolerance for point in sweep.points],
        cluster=depth.cluster,
    )


def _head(sweep: SweepModel, opened: Reopened) -> Iterator[ReplayCheck]:
    """Compare all that is said of network, data, devices, settings and limits."""
    evidence = SweepEvidence(
        network=opened.inspection.network,
        placement=opened.inspection.placement,
        runtime=opened.runtime,
        worst=(),
        tables={},
        proofs={},
        safe=None,
        witnesses={},
        effort=sweep.effort,
        settings=opened.asked.stated(),
        device_argument=str(opened.asked.subject.device),
        data_argument=str(opened.asked.subject.data),
        timings=sweep.timings,
    )
    derived = assemble_sweep(evidence)
    for block in SweepModel.model_fields:
        if block not in NOT_DERIVED | _POINTS:
            values = getattr(derived, block), getattr(sweep, block)
            yield block_check(
                "derived", *values, sweep, block, fine="follows from model, data and profile"
            )


def _points(directory: Path, sweep: SweepModel, opened: Reopened) -> Iterator[ReplayCheck]:
    """Compare witnesses with their boxes, score them, and bound every tolerance again.

    The boxes are those of model and profile, and the scores come from the engine of the run.
    """
    if not all(point.worst_found.witness for point in sweep.points):
        yield ReplayCheck(
            "derived points",
            None,
            "without the witnesses, worst scores and bounds are derived by a new run alone"
            " (--rerun)",
        )
        return
    below: Proof | None = None
    for index, point in enumerate(sweep.points):
        shown = f"{100 * point.tolerance:.4g} %"
        subject = opened.context.at(point.tolerance)
        runtime, box = subject.runtime, subject.box
        path = witness_folder(directory, point) / DEVIATIONS_FILE
        wrong = [
            f"{part} of {named(layers)}"
            for part, layers in wrong_parts(
                read_pattern(path, what="deviations of the witness"), box
            ).items()
            if layers
        ]
        if wrong:
            yield ReplayCheck(
                f"witness_box at {shown}",
                False,
                f"{'; '.join(wrong)} do not follow from model and profile",
            )
            return
        yield ReplayCheck(
            f"witness_box at {shown}",
            True,
            "nominal weights and intervals follow from model and profile",
        )
        pattern, worst = stored_pattern(path, box), point.worst_found
        score = runtime.score(box.weights(pattern), threads=opened.asked.run.workers)
        held = bool(np.isclose(score.value, worst.score, rtol=RTOL, atol=_edge(sweep)))
        yield ReplayCheck(
            f"engine score at {shown}", held, f"score {score.value:.6g}, claimed {worst.score:.6g}"
        )
        chip = Worst(point.tolerance, score, score, "", pattern, 0, 0, "", (), worst.has_twin)
        below = prove(opened.context, chip, below=below)
        yield _bound(sweep, point, swept_proof(below), index)


def _edge(sweep: SweepModel) -> float:
    """Return by how much scores may differ on another machine."""
    return (
        0.0
        if is_same_machine(sweep) or sweep.metric.unit != "fraction"
        else 2 / max(1, sweep.clean.samples)
    )


def _bound(sweep: SweepModel, point: SweptPoint, derived: SweptProof, index: int) -> ReplayCheck:
    fine = f"is what the bound at {100 * point.tolerance:.4g} %, computed again, gives"
    return block_check(
        "derived", derived, point.certified, sweep, f"points.{index}.certified", fine=fine
    )


def _redrawn(sweep: SweepModel, opened: Reopened, depth: Depth) -> Iterator[ReplayCheck]:
    """Draw all chips of one tolerance again, and some of every other.

    Those must lie between the extremes that are stated.
    """
    if depth.redraw == 0:
        yield ReplayCheck("redrawn_chips", None, "no chip was drawn again (--redraw 0)")
        return
    generator = np.random.default_rng(depth.run.seed)
    whole = int(generator.integers(len(sweep.points)))
    for index, point in enumerate(sweep.points):
        claimed = point.monte_carlo
        count = claimed.trials if index == whole else min(depth.redraw, claimed.trials)
        table = draw_chips(opened.context, point.tolerance, trials=count)
        shown = f"{100 * point.tolerance:.4g} %"
        if count == claimed.trials:
            fine = f"follows from all {count} chips of {shown}, drawn again"
            yield block_check(
                "redrawn",
                swept_chips(table),
                claimed,
                sweep,
                f"points.{index}.monte_carlo",
                fine=fine,
            )
            continue
        slack = _edge(sweep) + RTOL * max(abs(claimed.min), abs(claimed.max))
        held = (
            claimed.min - slack <= float(table.value.min())
            and float(table.value.max()) <= claimed.max + slack
        )
        said = (
            f"{count} of {claimed.trials} chips of {shown}, drawn again, lie between the extremes"
            " stated"
        )
        yield ReplayCheck(
            f"redrawn points.{index}.monte_carlo",
            held,
            said if held else f"a chip of {shown}, drawn again, leaves the extremes stated",
        )
    others = len(sweep.points) - 1
    if others and depth.redraw < min(point.monte_carlo.trials for point in sweep.points):
        yield ReplayCheck(
            "redrawn_chips",
            None,
            f"mean and percentiles of the other {others} tolerances are derived by --redraw"
            f" {sweep.points[0].monte_carlo.trials}",
        )


def _second_search(sweep: SweepModel, opened: Reopened, depth: Depth) -> ReplayCheck:
    """Search the largest tolerance again, with another seed and nothing known beforehand."""
    if depth.search is None:
        return ReplayCheck(
            "second_search",
            None,
            "whether a search finds a worse chip is not tested (--search quick)",
        )
    point = sweep.points[-1]
    subject = opened.context.at(point.tolerance)
    run = Run(depth.run.seed, depth.run.workers, depth.search, progress=depth.run.progress)
    found = search(subject, run)
    claimed = point.worst_found.score
    detail = (
        f"at {100 * point.tolerance:.4g} % a search of effort {depth.search} and"
        f" seed {depth.run.seed}"
        f" finds a chip that scores {found.score.value:.6g}, the sweep's worst scores {claimed:.6g}"
    )
    worse = much_worse(
        claimed,
        found.score.value,
        nominal=subject.runtime.nominal.value,
        metric=sweep.metric,
        samples=sweep.clean.samples,
    )
    if worse:
        return ReplayCheck("second_search", False, f"{detail}: the claimed worst chip is tame")
    return ReplayCheck("second_search", True if worse is False else None, detail)


def _rerun(sweep: SweepModel, opened: Reopened, depth: Depth) -> Iterator[ReplayCheck]:
    """Run the whole sweep again and compare everything but clocks."""
    if not depth.rerun:
        yield ReplayCheck(
            "rerun",
            None,
            "members of the search and safe tolerances are derived by a new run alone (--rerun)",
        )
        return
    made = sweep_opened(
        opened.asked,
        opened.inspection,
        opened.runtime,
        Clock(),
        for_workers=opened.for_workers,
    ).record
    exact, tame = is_same_machine(sweep), _is_tame(sweep, made, opened.runtime)
    for block in SweepModel.model_fields:
        if block in NOT_DERIVED:
            continue
        check = block_check(
            "rerun",
            getattr(made, block),
            getattr(sweep, block),
            sweep,
            block,
            fine="is what the run made again gives",
        )
        if check.held is False and not exact and not (block == "points" and tame):
            check = ReplayCheck(check.id, None, f"on this other machine: {check.detail}")
        yield check


def _is_tame(sweep: SweepModel, made: SweepModel, runtime: Runtime) -> bool:
    """Return whether a new run finds a much worse chip at any tolerance.

    Another machine does not explain that.
    """
    pairs = zip(sweep.points, made.points, strict=True)
    scores = [(claimed.worst_found.score, found.worst_found.score) for claimed, found in pairs]
    return any(
        much_worse(
            claimed,
            found,
            nominal=runtime.nominal.value,
            metric=sweep.metric,
            samples=sweep.clean.samples,
        )
        is True
        for claimed, found in scores
    )
