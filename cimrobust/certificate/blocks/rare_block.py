"""Rare failures in words and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.certificate.blocks.likely_block import compared, most_probable

if TYPE_CHECKING:
    from cimrobust.montecarlo.failing import RareFailures
    from cimrobust.reliability.likely_chip import LikelySearch

#: What the estimate rests on.
LABEL = (
    "Model-based: it rests on the stated distribution far into its tails, on independent devices,"
    " and on a Markov chain that mixes. The interval is that of ideal repeats, widened where"
    " repeats disagree; it is not distribution-free as the bounds of drawn chips are."
)
#: How it is computed.
FORMULA = (
    "p = product over levels of (1 - K/N), times the share of the last population that fails; R"
    " (-ln p) lies between quantiles of the sum of exponential times whose rates are the numbers of"
    " points left at every departure"
)

_NOT_SEARCHED = "the most probable failing chip was not searched for (--skip-most-probable)"


def rare_event(
    rare: RareFailures,
    *,
    higher_is_better: bool,
    search: LikelySearch | None = None,
    stored: models.StoredChip | None = None,
    certified: float | None = None,
) -> models.RareEvent:
    """Describe what splitting found, and the most probable failing chip beside it.

    Args:
        rare: What splitting found.
        higher_is_better: Direction of the metric.
        search: What a search for the most probable failing chip found; None: there was none.
        stored: Where that chip is stored.
        certified: Score that no chip of the tolerance box is worse than; None: nothing is proven.
    """
    found = rare.found
    chip = None if search is None else most_probable(search, stored=stored)
    reason = (
        None
        if chip is not None
        else _why_none(rare, search, certified, higher_is_better=higher_is_better)
    )
    event = models.RareEvent(
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
        first_order=(
            None if chip is None else compared(chip.reliability_index, found, rare.num_devices)
        ),
        first_order_reason=reason,
        most_probable=chip,
        most_probable_reason=reason,
        statement="",
        formula=FORMULA,
        label=LABEL,
    )
    said = rare_in_words(event, higher_is_better=higher_is_better)
    return event.model_copy(update={"statement": said})


def _why_none(
    rare: RareFailures,
    search: LikelySearch | None,
    certified: float | None,
    *,
    higher_is_better: bool,
) -> str:
    """Return why there is no most probable failing chip.

    A certified bound may show that none exists.
    """
    if search is None:
        return _NOT_SEARCHED
    if certified is not None and (
        certified >= rare.below if higher_is_better else certified <= rare.below
    ):
        return (
            "no chip fails: every chip within the tolerance is certified to score"
            f" {'at least' if higher_is_better else 'at most'} {certified:.6g}"
        )
    return search.reason


def rare_in_words(event: models.RareEvent, *, higher_is_better: bool) -> str:
    """Say how likely a failing chip is; of an event only its statement is not looked at."""
    side = "below" if higher_is_better else "above"
    used = f"{sum(run.evaluations for run in event.repeats)} chips in {len(event.repeats)} repeats"
    if event.probability is None and event.high >= 1.0:
        return (
            f"How likely a chip {side} {event.threshold:g} is, is not known: not reached with"
            f" {used}, because {event.reason}."
        )
    if event.probability is None:
        return (
            f"A chip {side} {event.threshold:g} is rarer than {event.high:.2g}: not reached with"
            f" {used}, because {event.reason}."
        )
    return (
        f"A chip {side} {event.threshold:g} on these samples has probability"
        f" {event.probability:.2g}, between {event.low:.2g} and {event.high:.2g} at"
        f" {100 * event.confidence:g} % confidence ({used})."
    )
