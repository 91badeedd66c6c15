"""Coverage of the bounds by simulation on known distributions.

Seeds are fixed. A bound at confidence c may be broken with probability 1 - c; one that is broken
exactly that often fails its test with probability below 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from cimrobust.montecarlo.quantile import (
    bound_rank,
    clopper_pearson_lower,
    clopper_pearson_upper,
    kpp_of_scores,
)

REPEATS = 10_000


def _largest_count(rate: float) -> int:
    """Violations that a correct bound exceeds with probability below 1e-6."""
    return int(stats.binom.isf(1e-6, REPEATS, rate))


@pytest.mark.parametrize(
    ("num_trials", "fraction", "confidence"),
    [(299, 0.01, 0.95), (300, 0.05, 0.95), (1000, 0.01, 0.999), (60, 0.5, 0.9)],
)
def test_order_statistic_covers_the_quantile(
    num_trials: int, fraction: float, confidence: float
) -> None:
    rank = bound_rank(num_trials, fraction, confidence)
    # The r-th smallest of n uniform numbers is Beta(r, n - r + 1): the bound fails where it lies
    # above the true quantile.
    statistics = np.random.default_rng(1).beta(rank, num_trials - rank + 1, size=REPEATS)
    assert (statistics > fraction).sum() <= _largest_count(1 - confidence)
    tighter = np.random.default_rng(2).beta(rank + 1, num_trials - rank, size=REPEATS)
    assert (tighter > fraction).mean() > (
        1 - confidence
    )  # One rank more would break the promise: the bound is the tightest one.


# Scores of many chips at once, and the true 5th percentile: continuous, skewed, accuracies of 50
# samples (ties), two values, one value.
_Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
DISTRIBUTIONS: dict[str, tuple[_Draw, float]] = {
    "normal": (lambda generator, size: generator.normal(size=size), float(stats.norm.ppf(0.05))),
    "heavy lower tail": (
        lambda generator, size: -generator.pareto(0.5, size=size),
        float(-stats.pareto.ppf(0.95, 0.5, loc=-1)),
    ),
    "accuracies": (
        lambda generator, size: generator.binomial(50, 0.9, size=size) / 50,
        float(stats.binom.ppf(0.05, 50, 0.9)) / 50,
    ),
    "two values": (
        lambda generator, size: np.where(generator.random(size) < 0.051, 0.1, 0.97),
        0.1,
    ),
    "two values, the other side": (
        lambda generator, size: np.where(generator.random(size) < 0.049, 0.1, 0.97),
        0.97,
    ),
    "one value": (lambda generator, size: np.full(size, 0.5), 0.5),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("num_trials", [59, 93, 200])
def test_kpp_bound_covers_whatever_the_distribution(name: str, num_trials: int) -> None:
    draw, true_quantile = DISTRIBUTIONS[name]
    scores = draw(np.random.default_rng(3), (REPEATS, num_trials))
    bounds = [kpp_of_scores(row, k=5.0, confidence=0.95).bound for row in scores]
    assert all(bound is not None for bound in bounds)
    assert sum(bound is not None and bound > true_quantile for bound in bounds) <= _largest_count(
        0.05
    )


def test_kpp_bound_of_errors_covers_from_above() -> None:
    scores = np.random.default_rng(4).lognormal(size=(REPEATS, 93))
    bounds = [
        kpp_of_scores(row, k=5.0, confidence=0.95, higher_is_better=False).bound for row in scores
    ]
    true_quantile = float(stats.lognorm.ppf(0.95, 1.0))
    assert sum(bound is not None and bound < true_quantile for bound in bounds) <= _largest_count(
        0.05
    )


@pytest.mark.parametrize("rate", [0.0005, 0.001, 0.02, 0.3, 0.99])
@pytest.mark.parametrize("num_trials", [20, 500])
def test_clopper_pearson_covers_the_rate_on_both_sides(rate: float, num_trials: int) -> None:
    counts = np.random.default_rng(5).binomial(num_trials, rate, size=REPEATS)
    found = [int(count) for count in np.unique(counts)]
    upper = {count: clopper_pearson_upper(count, num_trials, 0.95) for count in found}
    lower = {count: clopper_pearson_lower(count, num_trials, 0.95) for count in found}
    assert sum(upper[int(count)] < rate for count in counts) <= _largest_count(0.05)
    assert sum(lower[int(count)] > rate for count in counts) <= _largest_count(0.05)


def test_clopper_pearson_is_no_wider_than_it_has_to_be() -> None:
    """At a rate just above the bound for no event, the bound is broken with the stated probability."""  # noqa: E501
    bound = clopper_pearson_upper(0, 500, 0.95)
    counts = np.random.default_rng(6).binomial(500, bound * (1 + 1e-9), size=REPEATS)
    broken = sum(count == 0 for count in counts)  # any event gives a bound above the rate
    assert abs(broken - 0.05 * REPEATS) <= _largest_count(0.05) - 0.05 * REPEATS
