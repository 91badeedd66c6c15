"""Rare failures in words and numbers."""

from __future__ import annotations

import math

from cimrobust.certificate import models
from cimrobust.montecarlo.failing import RareFailures
from cimrobust.montecarlo.rare import first_order

_LABEL = (
    "Model-based: it rests on the stated distribution far into its tails, on independent devices, and on a Markov chain that mixes. The interval is that of ideal repeats, widened where "
    "repeats disagree; it is not distribution-free as the bounds of drawn chips are."
)
_FORMULA = (
    "p = product over levels of (1 - K/N), times the share of the last population that fails; R (-ln p) lies between quantiles of the sum of exponential times whose rates are the "
    "numbers of points left at every departure"
)


def rare_event(rare: RareFailures, *, higher_is_better: bool, reliability_index: float | None = None) -> models.RareEvent:
    """Describe what splitting found.

    Args:
        rare: What it found.
        higher_is_better: Direction of the metric.
        reliability_index: Norm of the most probable failing chip, where one was searched for.
    """
    found = rare.found
    comparison = None if reliability_index is None else first_order(reliability_index, found)
    return models.RareEvent(
        threshold=rare.below,
        wrong_decisions=rare.num_wrong,
        decisions=rare.num_decisions,
        devices=rare.num_devices,
        probability=found.estimate,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        widened=found.widened,
        reliability_index=found.reliability_index,
        reached=found.estimate is not None,
        reason=found.reason or None,
        particles=rare.settings.particles,
        killed=rare.settings.killed,
        moves=rare.settings.moves,
        budget=rare.settings.budget,
        seed=rare.seed,
        repeats=[
            models.RareRepeat(
                probability=math.exp(run.log_probability),
                reached=run.reached,
                levels=len(run.levels),
                evaluations=run.evaluations,
                accepted=run.accepted,
                nearest=run.nearest,
            )
            for run in rare.runs
        ],
        first_order=None if comparison is None else models.FirstOrder(**comparison.__dict__),
        first_order_reason=None if comparison else "the most probable failing chip was not searched for",
        statement=_statement(rare, higher_is_better=higher_is_better),
        formula=_FORMULA,
        label=_LABEL,
    )


def _statement(rare: RareFailures, *, higher_is_better: bool) -> str:
    found, side = rare.found, "below" if higher_is_better else "above"
    used = f"{sum(run.evaluations for run in rare.runs)} chips in {len(rare.runs)} repeats"
    if found.estimate is None:
        return f"A chip {side} {rare.below:g} is rarer than {found.high:.2g}: not reached with {used}, because {found.reason}."
    return (
        f"A chip {side} {rare.below:g} on these samples has probability {found.estimate:.2g}, between {found.low:.2g} and {found.high:.2g} at "
        f"{100 * found.confidence:g} % confidence ({used})."
    )
