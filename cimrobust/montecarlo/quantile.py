"""What N drawn chips prove about all chips.

Quantiles with distribution-free bounds, failure rates with exact ones.

Scores are compared as they are, in float64; an accuracy is a count divided by a number of samples,
which float64 rounds the same way as the decimal requirement it is compared with. For a metric where
lower is better (an error), every comparison is mirrored: the worst chips are those with the highest
values and the bound is an upper one.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.binomial import at_least, beta_quantile
from cimrobust.errors import UsageError
from cimrobust.montecarlo.anytime import anytime_lower, anytime_rank, anytime_upper, needed_anytime

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Real

_MOST_NEEDED = 2**53


@dataclass(frozen=True)
class Kpp:
    """K-th percentile performance: the score that all but the worst k percent of chips reach.

    Attributes:
        k: Percentage of chips that may be worse, in (0, 100).
        score: Empirical quantile of the trials.
        bound: One-sided confidence bound of the true quantile (lower, or upper where lower scores
            are better); None: too few trials.
        confidence: Confidence of the bound.
        rank: Rank of the trial that is the bound, 1 = worst; 0: too few trials.
        num_trials: Trials used.
        needed_trials: Fewest trials that give any bound at this k and confidence.
    """

    k: float
    score: float
    bound: float | None
    confidence: float
    rank: int
    num_trials: int
    needed_trials: int


@dataclass(frozen=True)
class FailureRate:
    """Fraction of chips that miss a requirement, with one-sided bounds.

    Exact ones (Clopper-Pearson), or those that hold after every trial at once.

    Attributes:
        requirement: Score a chip has to reach.
        num_failures: Trials that missed it.
        num_trials: Trials.
        estimate: Fraction of the trials that missed it.
        lower: Lower bound of the probability.
        upper: Upper bound of the probability.
        confidence: Confidence of each bound alone.
    """

    requirement: float
    num_failures: int
    num_trials: int
    estimate: float
    lower: float
    upper: float
    confidence: float


@lru_cache(maxsize=256)
def bound_rank(num_trials: int, fraction: float, confidence: float) -> int:
    """Return the rank of the order statistic that bounds a quantile from below; 0: there is none.

    It is the largest r with ``P(Bin(num_trials, fraction) >= r) >= confidence``, which needs no
    assumption on the distribution and holds with ties (the same as
    ``scipy.stats.quantile_test(...).confidence_interval``).

    With q the quantile of p, a chip is at or below q with a probability of at least p. The r-th
    worst of n is at or below q exactly if r trials are, and their number is binomial, so the
    probability of that is at least ``P(Bin(n, p) >= r)``.

    References:
        H. A. David, H. N. Nagaraja, "Order statistics", 3rd ed., Wiley 2003, section 7.1.
    """
    _check_fraction("fraction of chips", fraction)
    _check_fraction("confidence", confidence)
    # The probability falls with the rank.
    return bisect.bisect_left(
        range(1, num_trials + 1),
        True,
        key=lambda rank: not at_least(rank, num_trials, fraction) >= confidence,
    )


@lru_cache(maxsize=256)
def needed_trials(k: float, confidence: float, rank: int = 1) -> int:
    """Return the fewest trials at which the trial of this rank bounds the k-th percentile.

    For rank 1 that is the smallest n with ``1 - (1 - k/100)^n >= confidence``: 299 for k = 1 at 95
    %, 688 at 99.9 %.

    References:
        S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Ann. Math.
        Statist. 12, 1941.
    """
    fraction = k / 100.0
    _check_fraction("k / 100", fraction)
    _check_fraction("confidence", confidence)
    high = rank
    while not at_least(rank, high, fraction) >= confidence:
        high *= 2
        if high > _MOST_NEEDED:
            raise UsageError(
                f"percentile must be one that trials can decide, got {k:g} % at confidence"
                f" {confidence:g}, which needs more than {_MOST_NEEDED} trials; ask for a"
                " larger one"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if at_least(rank, middle, fraction) >= confidence:
            high = middle
        else:
            low = middle
    return high


def kpp_of_scores(
    scores: Real[np.ndarray, "trials"],
    *,
    k: float,
    confidence: float,
    higher_is_better: bool = True,
    is_sequential: bool = False,
) -> Kpp:
    """Return the k-th percentile performance of a set of trials with its confidence bound.

    The empirical quantile is the score of an actual trial: the ``ceil(N k / 100)``-th worst.

    Args:
        scores: One score a trial [num_trials], finite.
        k: Percentage of chips that may be worse.
        confidence: Confidence of the bound.
        higher_is_better: Direction of the metric.
        is_sequential: The scores decided how many there are, so that the bound has to hold after
            every trial.

    Raises:
        UsageError: k, the confidence or the scores make no sense.
    """
    ordered = worst_first(scores, higher_is_better)
    num_trials = ordered.size
    find_rank, find_needed = (
        (anytime_rank, needed_anytime) if is_sequential else (bound_rank, _needed_of_fraction)
    )
    _check_fraction("k / 100", k / 100.0)
    _check_fraction("confidence", confidence)
    rank = find_rank(num_trials, k / 100.0, confidence)
    # N k / 100 carries rounding of its own (1000 * 0.7 / 100 is 7.000000000000001 in some orders);
    # a trial is never lost to it.
    quantile_rank = max(1, math.ceil(num_trials * k / 100.0 - 1e-9))
    return Kpp(
        k=k,
        score=float(ordered[quantile_rank - 1]),
        bound=float(ordered[rank - 1]) if rank else None,
        confidence=confidence,
        rank=rank,
        num_trials=num_trials,
        needed_trials=find_needed(k / 100.0, confidence),
    )


def clopper_pearson_upper(num_events: int, num_trials: int, confidence: float) -> float:
    """Return the exact one-sided upper bound of a probability.

    The p at which as few events as seen, S of n, have the probability 1 - confidence; ``1 - (1 -
    confidence)^(1/n)`` for no event. ``P(Bin(n, p) <= S)`` is ``1 - I_p(S + 1, n - S)``, so p is a
    quantile of a beta distribution.

    References:
        C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
        case of the binomial", Biometrika 26, 1934.
    """
    _check_events(num_events, num_trials)
    if num_events == num_trials:
        return 1.0
    return beta_quantile(confidence, num_events + 1, num_trials - num_events)


def clopper_pearson_lower(num_events: int, num_trials: int, confidence: float) -> float:
    """Return the exact one-sided lower bound of a probability.

    The p at which as many events as seen have the probability 1 - confidence; see
    `clopper_pearson_upper`, with ``P(Bin(n, p) >= S) = I_p(S, n - S + 1)``.
    """
    _check_events(num_events, num_trials)
    if num_events == 0:
        return 0.0
    return beta_quantile(1.0 - confidence, num_events, num_trials - num_events + 1)


def failure_rate_of_scores(
    scores: Real[np.ndarray, "trials"],
    *,
    requirement: float,
    confidence: float,
    higher_is_better: bool = True,
    sequential_aim: float | None = None,
) -> FailureRate:
    """Return how often a chip is worse than the requirement, with bounds.

    Args:
        scores: One score a trial [num_trials], finite.
        requirement: Score a chip has to reach; reaching it exactly is no failure.
        confidence: Confidence of each bound alone.
        higher_is_better: Direction of the metric.
        sequential_aim: Where the scores decided how many there are: the rate that the upper bound
            has to come below. None: their number was fixed in advance.
    """
    ordered = worst_first(scores, higher_is_better)
    missed = ordered < requirement if higher_is_better else ordered > requirement
    num_failures, num_trials = int(missed.sum()), ordered.size
    if sequential_aim is None:
        lower, upper = (
            bound(num_failures, num_trials, confidence)
            for bound in (clopper_pearson_lower, clopper_pearson_upper)
        )
    else:
        lower = anytime_lower(num_failures, num_trials, confidence)
        upper = anytime_upper(num_failures, num_trials, confidence, aim=sequential_aim)
    return FailureRate(
        requirement=requirement,
        num_failures=num_failures,
        num_trials=num_trials,
        estimate=num_failures / num_trials,
        lower=lower,
        upper=upper,
        confidence=confidence,
    )


def _needed_of_fraction(fraction: float, confidence: float) -> int:
    return needed_trials(100.0 * fraction, confidence)


def worst_first(
    scores: Real[np.ndarray, "trials"], higher_is_better: bool
) -> Float64[np.ndarray, "trials"]:
    """Return scores sorted, the worst first.

    Raises UsageError where there are none, or one is no number.
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise UsageError("trials must be at least one, got none (statistics); ask for more trials")
    if np.isnan(values).any():
        raise UsageError(
            f"trial scores must be numbers, got NaN (trial {int(np.isnan(values).argmax())}); check"
            " the metric and the model's outputs"
        )
    ordered = np.sort(values)
    return ordered if higher_is_better else ordered[::-1]


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"{name} must be between 0 and 1, both excluded, got {value} (statistics); give k in"
            " percent, confidence as a fraction"
        )


def _check_events(num_events: int, num_trials: int) -> None:
    if not 0 <= num_events <= num_trials or num_trials == 0:
        raise UsageError(
            f"events must be between 0 and the number of trials, got {num_events} of {num_trials}"
            " (statistics); count again"
        )
