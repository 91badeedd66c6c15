"""Bounds that hold after every trial at once, so that a run may stop as soon as they decide.

Repeatedly looking at a bound for a fixed number of trials, and stopping when it is green, breaks
its promise (22.8 % false passes at a stated 5 %, see
docs/explanation/statistics.md). Here the evidence against a rate p is the beta mixture

    M_n(p) = B(a + S, b + n - S) / (B(a, b) p^S (1 - p)^(n - S))

with S events in n trials: a martingale of mean 1 at the true rate, so by Ville's inequality it ever
reaches 1/alpha with probability at most alpha. Above S/n it grows with
p, and below it falls, so rejecting p rejects everything beyond it too.

References:
    J. Ville, "Etude critique de la notion de collectif", 1939; H. Robbins, "Statistical methods
    related to the law of the iterated logarithm", Ann. Math. Statist. 41,
    1970; S. R. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B
    testing and best-arm identification", Bernoulli 28(3), 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from scipy.special import betaln, xlog1py, xlogy

from cimrobust.bracketed_root import bracketed_root

Outcome = Literal["met", "refuted", "open"]
Prior = tuple[float, float]

#: For showing that a rate is too high, however high it is: at most a factor of about sqrt(n) from
#: the best.
JEFFREYS: Prior = (0.5, 0.5)


@dataclass(frozen=True)
class Target:
    """All but the worst k percent of chips reach a score.

    Attributes:
        k: Percentage of chips that may miss it.
        confidence: 1 - alpha, for each of the two answers.
        score: Score to reach.
    """

    k: float
    confidence: float
    score: float

    @property
    def rate(self) -> float:
        """Largest share of chips that may miss the score."""
        return self.k / 100.0


def log_evidence(num_events: int, num_trials: int, rate: float, prior: Prior) -> float:
    """Return ``ln M_n(rate)``, see the module.

    Args:
        num_events: S.
        num_trials: n.
        rate: p, in (0, 1).
        prior: a and b.
    """
    a, b = prior
    rest = num_trials - num_events
    mixture = betaln(a + num_events, b + rest) - betaln(a, b)
    return float(mixture - xlogy(num_events, rate) - xlog1py(rest, -rate))


def passing_prior(rate: float) -> Prior:
    """Return the prior that makes passing fast.

    Most of it below the rate, half of it below a tenth of it; 349 trials without event for 1 % at
    95 %.
    """
    return 0.5, 2.0 / rate


def outcome(num_events: int, num_trials: int, target: Target) -> Outcome:
    """Return what the trials so far say about a target.

    Each of the two answers is wrong with probability at most alpha, whenever it is looked at.
    """
    limit = -math.log1p(-target.confidence)
    if (
        num_events < target.rate * num_trials
        and log_evidence(num_events, num_trials, target.rate, passing_prior(target.rate)) >= limit
    ):
        return "met"
    if (
        num_events > target.rate * num_trials
        and log_evidence(num_events, num_trials, target.rate, JEFFREYS) >= limit
    ):
        return "refuted"
    return "open"


@lru_cache(maxsize=256)
def anytime_rank(num_trials: int, fraction: float, confidence: float) -> int:
    """Return the rank of the order statistic that bounds a quantile from below at any time.

    0: there is none yet.

    The largest r such that r - 1 events in `num_trials` reject rates of `fraction` and more; as
    `montecarlo.quantile.bound_rank` for a number fixed in advance.
    """
    limit, prior, rank = -math.log1p(-confidence), passing_prior(fraction), 0
    while rank < fraction * num_trials and log_evidence(rank, num_trials, fraction, prior) >= limit:
        rank += 1
    return rank


@lru_cache(maxsize=256)
def needed_anytime(fraction: float, confidence: float) -> int:
    """Return the fewest trials after which the worst of them bounds the quantile of `fraction`."""
    high = 1
    while anytime_rank(high, fraction, confidence) == 0:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if anytime_rank(middle, fraction, confidence) else (middle, high)
    return high


def anytime_upper(num_events: int, num_trials: int, confidence: float, *, aim: float) -> float:
    """Return the upper bound of a rate: the largest that is not rejected.

    Args:
        num_events: Events so far.
        num_trials: Trials so far.
        confidence: Of the bound, after all numbers of trials together.
        aim: Rate that the bound should come below soonest; must not depend on the trials.
    """
    return _bound(num_events, num_trials, confidence, passing_prior(aim), upper=True)


def anytime_lower(num_events: int, num_trials: int, confidence: float) -> float:
    """Return the lower bound of a rate; arguments as for `anytime_upper`."""
    return _bound(num_events, num_trials, confidence, JEFFREYS, upper=False)


def _bound(
    num_events: int, num_trials: int, confidence: float, prior: Prior, *, upper: bool
) -> float:
    limit, seen = -math.log1p(-confidence), num_events / num_trials
    if seen == (1.0 if upper else 0.0):
        return seen

    def excess(rate: float) -> float:
        return log_evidence(num_events, num_trials, rate, prior) - limit

    # At the rate seen the mixture is no more likely than the rate itself: never rejected.
    start, end = min(max(seen, 1e-300), 1.0 - 1e-12), 1.0 - 1e-12 if upper else 1e-300
    return (
        bracketed_root(excess, start, end, xtol=1e-15)
        if excess(end) > 0.0
        else (1.0 if upper else 0.0)
    )
