"""Passes and forward runs that the diagnostics of an analysis make at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.diagnose.classes import MOST_CLASSES, PLANS
from cimrobust.diagnose.fragile_layers import plan_of
from cimrobust.diagnose.tolerance_curve import CURVE_PLANS, MOST_TOLERANCES
from cimrobust.search.search_budget import budget_of

if TYPE_CHECKING:
    from cimrobust.planning.workload import Workload

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
