"""Work that fits into a time: the most that an effort does, or a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cimrobust.errors import UsageError
from cimrobust.planning.planning_records import duration
from cimrobust.run import EFFORTS

# Least that says something: chips for a bound of the 10th percentile at 95 % confidence, samples
# for an accuracy to 10 %, and samples to make chips on.
_LEAST_TRIALS, _LEAST_SAMPLES, _LEAST_ATTACK = 29, 100, 8
# What is left of an effort before the one below it says more; the lowest goes down to the least.
_LEAST_SHARE = 0.3
# Share of the time that estimates may fill: they are rough.
_FILLED = 0.8
# Each try is so much smaller than the one before.
_STEP = 0.85


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much an analysis does.

    Attributes:
        effort: Level of effort.
        trials: Chips to draw.
        samples: Samples that every chip is scored on.
        attack_samples: Samples that the search makes chips on.
        passes: Passes of the search at most.
        diagnostics: Names of the diagnostics, separated by commas, or ``none``.
    """

    effort: str
    trials: int
    samples: int
    attack_samples: int
    passes: int
    diagnostics: str


def fitted(
    whole: Callable[[str], Amounts],
    least: Callable[[str], int],
    seconds: Callable[[Amounts], float],
    *,
    effort: str,
    time: float,
    given: frozenset[str],
) -> Amounts:
    """Return the most work that fits into a time.

    Args:
        whole: What an effort does if nothing is shortened.
        least: Passes of the shortest search of an effort.
        seconds: What work is expected to take.
        effort: Highest effort.
        time: Seconds.
        given: Amounts that stay as they are.

    Raises:
        UsageError: Not even the least fits; names its time.
    """
    smallest = math.inf
    for name in EFFORTS[EFFORTS.index(effort) :: -1]:
        for amounts in _shorter(whole(name), least(name), given):
            needed = seconds(amounts)
            if needed <= _FILLED * time:
                return amounts
            smallest = min(smallest, needed)
    raise UsageError(
        f"time must be enough for the least meaningful run, about {duration(smallest / _FILLED)}"
        f" here, got {duration(time)} (--time); give more time, or fewer samples (--limit)"
    )


def _shorter(whole: Amounts, least_passes: int, given: frozenset[str]) -> Iterator[Amounts]:
    """Yield ever less of an effort; first chips and passes go down, below half samples too."""
    share, lowest = 1.0, whole.effort == EFFORTS[0]
    before: Amounts | None = None
    while lowest or share >= _LEAST_SHARE:
        amounts = _part(whole, share, least_passes, given)
        if amounts == before:
            return
        yield amounts
        before, share = amounts, share * _STEP


def _part(whole: Amounts, share: float, least_passes: int, given: frozenset[str]) -> Amounts:
    of_samples = min(2 * share, 1.0)

    def part(name: str, least: int, factor: float) -> int:
        most: int = getattr(whole, name)
        return (
            most if name in given or factor == 1 else max(_round(factor * most), min(least, most))
        )

    samples = part("samples", _LEAST_SAMPLES, of_samples)
    keeps = "diagnostics" in given or share == 1
    return Amounts(
        effort=whole.effort,
        trials=part("trials", _LEAST_TRIALS, share),
        samples=samples,
        attack_samples=min(part("attack_samples", _LEAST_ATTACK, of_samples), samples),
        passes=part("passes", least_passes, share),
        diagnostics=whole.diagnostics if keeps else "none",
    )


def _round(number: float) -> int:
    """Return a number with two digits, rounded down."""
    size: int = 10 ** max(int(math.log10(max(number, 1))) - 1, 0)
    return int(number / size) * size
