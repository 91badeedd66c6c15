"""Time and memory of every stage of an analysis, from what it is asked and how fast a machine is.

Estimates: what a stage repeats is counted, what one repetition takes was measured, and what no
count tells (how soon a search ends, how often bounds are narrowed) is a typical value that was
measured on the model zoo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.certify.bound_summary import CURVE_SAMPLES
from cimrobust.certify.bounds import bisection_rounds
from cimrobust.certify.octaves import OCTAVES, STEPS
from cimrobust.diagnose.classes import MOST_CLASSES, PLANS
from cimrobust.diagnose.fragile_layers import plan_of
from cimrobust.diagnose.tolerance_curve import CURVE_PLANS, MOST_TOLERANCES
from cimrobust.planning.planning_records import PlannedStage
from cimrobust.search.search_budget import budget_of

if TYPE_CHECKING:
    from cimrobust.planning.measured_speed import Speed
    from cimrobust.planning.workload import Workload

# Share of its passes that a search makes where something stays correct: members stop on plateaus
# and leave the rest to others, which use most of it.
_USED = 0.75
# Passes beyond the first after which a network breaks, where it breaks at once.
_LATER = 4
# The same of the attacks of diagnostics, most of which are on a part of the box.
_USED_BY_ATTACKS = 0.7
# Patterns that the members score on all samples, and other forward runs over all of them.
_SCORED = 30
# Patterns of all weights, float32: what a climb has at hand and, in about two bits a weight, the 60
# that a search keeps; and what attacks of diagnostics keep.
_AT_HAND, _KEPT_BY_ATTACKS = 16, 60
# Bytes a weight: a chip that is drawn and its session; weights, gradients and copies of one piece;
# the files of the worst chip.
_CHIP_BYTES, _PIECE_BYTES, _FILE_BYTES = 16, 12, 20
# Samples of a piece of the attack set.
_PIECE = 64
# Writing: seconds of report and replay, and what every weight of the witness costs, in chips that
# are drawn.
_WRITING, _WRITING_CHIPS = 1.5, 30
# Attacks on a class: from scratch, and again from what others found.
_ATTACKS_ON_A_CLASS = 2
# Forward runs over all samples beside every attack: its best patterns, and no deviation.
_RUNS = 4
# Of diagnostics that follow given patterns, by effort: passes, and runs of all samples (counted on
# mnist_mlp_256x2 of the model zoo at effort standard; others in proportion to what they may do).
_INPUTS: Mapping[str, tuple[int, int]] = {
    "quick": (40, 300),
    "standard": (80, 700),
    "thorough": (200, 2000),
}
_STUCK: Mapping[str, tuple[int, int]] = {
    "quick": (100, 500),
    "standard": (200, 1000),
    "thorough": (300, 2000),
}
# Attacks of selective write-verify (counted likewise), and how long they are against a whole one.
_VERIFY: Mapping[str, tuple[int, float]] = {
    "quick": (14, 0.3),
    "standard": (30, 0.4),
    "thorough": (60, 2.0),
}


def planned_stages(
    work: Workload, speed: Speed, *, loading: float, held_bytes: int
) -> tuple[PlannedStage, ...]:
    """Return what every stage is expected to take.

    Args:
        work: What is asked.
        speed: How fast this machine is at the network.
        loading: Seconds that loading and checking took.
        held_bytes: Memory of the process once the network is open.
    """
    chips = held_bytes + work.workers * _CHIP_BYTES * work.weights
    stages = [
        PlannedStage(
            stage="load",
            seconds=loading,
            most_seconds=loading,
            memory_bytes=held_bytes,
            note="measured: the network was opened",
        ),
        _chips("monte_carlo", work, speed, work.trials, chips, "a chip was drawn and scored"),
    ]
    if work.rare_chips:
        note = "at most: its budget; chips are scored on all samples"
        stages.append(_chips("rare_failures", work, speed, work.rare_chips, chips, note))
    writing = _WRITING + _WRITING_CHIPS * speed.chip.fixed
    stages += [
        _search(work, speed, held_bytes),
        _diagnostics(work, speed, held_bytes),
        _certify(work, speed),
        _chips(
            "effects", work, speed, work.effects * work.effect_chips, chips, "as for drawn chips"
        ),
        PlannedStage(
            stage="writing",
            seconds=writing,
            most_seconds=writing,
            memory_bytes=held_bytes + _FILE_BYTES * work.weights,
            note="typical: witness, its replay, report",
        ),
    ]
    return tuple(stage for stage in stages if stage.stage not in work.skipped)


def expected_passes(work: Workload, speed: Speed) -> int:
    """Return the passes of the search that are expected."""
    if speed.search.reason:
        return 0
    most = work.budget.num_passes
    if speed.search.ends_after is not None:
        return min(speed.search.ends_after + _LATER, most)
    return max(round(_USED * most), 1)


def _chips(
    name: str, work: Workload, speed: Speed, count: int, held_bytes: int, note: str
) -> PlannedStage:
    seconds = count * speed.chip.seconds(work.samples) / _at_once(work, count)
    return PlannedStage(
        stage=name, seconds=seconds, most_seconds=seconds, memory_bytes=held_bytes, note=note
    )


def _search(work: Workload, speed: Speed, held_bytes: int) -> PlannedStage:
    budget, search, chip = work.budget, speed.search, speed.chip
    corners = budget.random_corners + budget.random_corners // 2
    if search.reason:
        runs, note = budget.evaluations_alone + corners, f"no gradients: {search.reason}"
    else:
        runs, note = budget.evaluations + corners, "passes were made on a few samples"
    forward = runs * chip.seconds(work.attack_samples) / _at_once(work, work.attack_samples)
    scored = _SCORED * chip.fixed + _SCORED * work.samples * chip.sample / _at_once(
        work, work.samples
    )
    once = search.opening + forward + scored
    if search.ends_after is not None:
        note += f"; nothing was correct after {search.ends_after} passes, so it should end soon"
    each = _pass_seconds(work, speed)
    most = 0 if search.reason else budget.num_passes
    return PlannedStage(
        stage="search",
        seconds=once + expected_passes(work, speed) * each,
        most_seconds=once + most * each,
        memory_bytes=held_bytes
        + 4 * _AT_HAND * work.weights
        + _pieces_at_once(work) * (_PIECE_BYTES * work.weights + _saved(work, speed)),
        note=note,
    )


def _diagnostics(work: Workload, speed: Speed, held_bytes: int) -> PlannedStage:
    cost = diagnostic_cost(work)
    run = speed.chip.fixed + work.samples * speed.chip.sample / _at_once(work, work.samples)
    each = 0.0 if speed.search.reason else _pass_seconds(work, speed)
    share = expected_passes(work, speed) / work.budget.num_passes
    passes = _USED_BY_ATTACKS * cost.passes + share * cost.search_passes
    opening = speed.search.opening if work.diagnostics else 0.0
    return PlannedStage(
        stage="diagnostics",
        seconds=opening + passes * each + cost.runs * run,
        most_seconds=opening + (cost.passes + cost.search_passes) * each + cost.runs * run,
        memory_bytes=held_bytes
        + 4 * _KEPT_BY_ATTACKS * work.weights
        + _pieces_at_once(work) * (_PIECE_BYTES * work.weights + _saved(work, speed)),
        note=f"{len(work.diagnostics)} diagnostics, from the passes that each may make",
    )


def _certify(work: Workload, speed: Speed) -> PlannedStage:
    bound = speed.bound
    curve = min(CURVE_SAMPLES[work.effort], work.samples)
    rounds = bisection_rounds(OCTAVES, STEPS[work.effort]) + 1
    # What does not hold in the smallest box is not tried in others.
    whole = curve * rounds * (bound.held + bound.broken) / 2
    seconds = bound.opening + (whole if bound.hopeful else min(3, curve) * bound.held)
    most = bound.opening + whole
    return PlannedStage(
        stage="certify",
        seconds=seconds,
        most_seconds=most,
        memory_bytes=None,
        note=bound.reason
        or "samples were bounded in the smallest and the stated box; the roughest estimate",
    )


def _pass_seconds(work: Workload, speed: Speed) -> float:
    """Return the seconds of a pass over the attack set."""
    shared = work.attack_samples * speed.search.sample / _pieces_at_once(work)
    return speed.search.fixed + shared


def _pieces_at_once(work: Workload) -> int:
    return max(min(work.workers, -(-work.attack_samples // _PIECE)), 1)


def _saved(work: Workload, speed: Speed) -> int:
    return min(work.attack_samples, _PIECE) * speed.search.saved_bytes


def _at_once(work: Workload, count: int) -> int:
    return max(min(work.workers, count), 1)


@dataclass(frozen=True)
class Cost:
    """What a diagnostic makes at most.

    Attributes:
        passes: Forward-backward passes over the attack set.
        runs: Forward runs over all samples.
        search_passes: Passes of searches, which end where nothing is correct any more.
    """

    passes: float
    runs: float
    search_passes: float = 0.0


def diagnostic_cost(work: Workload) -> Cost:
    """Return what all diagnostics of an analysis make at most."""
    costs = [_cost(name, work) for name in work.diagnostics]
    return Cost(
        sum(cost.passes for cost in costs),
        sum(cost.runs for cost in costs),
        sum(cost.search_passes for cost in costs),
    )


def _cost(name: str, work: Workload) -> Cost:
    effort = work.effort
    if name == "layers":
        attacks = 2 * work.layers if work.layers > 1 else 1
        return Cost(attacks * plan_of(effort, work.layers).passes, attacks * _RUNS)
    if name == "classes":
        # Each on its own samples: together on as many as one attack on all.
        share = min(work.classes, MOST_CLASSES) / max(work.classes, 1)
        return Cost(
            _ATTACKS_ON_A_CLASS * share * PLANS[effort].passes if work.classes else 0,
            2 * _RUNS * share,
        )
    if name == "tolerance_curve":
        return Cost(MOST_TOLERANCES * CURVE_PLANS[effort].passes, MOST_TOLERANCES * _RUNS)
    if name == "transfer":
        # Two searches, on half of the samples each.
        lower = "standard" if effort == "thorough" else "quick"
        return Cost(0.0, 40, budget_of(lower).num_passes)
    if name == "write_verify":
        attacks, length = _VERIFY[effort]
        return Cost(attacks * FULL_ATTACK.scaled(length).passes, attacks * _RUNS)
    passes, runs = {"fragile_inputs": _INPUTS, "stuck_devices": _STUCK}[name][effort]
    return Cost(passes, runs)
