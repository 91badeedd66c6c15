"""Coverage of the bounds by simulation, with fixed seeds; margins leave a false alarm rate below 1e-6."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cimrobust.montecarlo.quantile import bound_rank, clopper_pearson_upper, kpp_of_scores

REPEATS = 20000


def _largest_count(rate: float, repeats: int) -> int:
    """Violations that a correct bound exceeds with probability below 1e-6."""
    return int(stats.binom.isf(1e-6, repeats, rate))


@pytest.mark.parametrize(
    ("num_trials", "fraction", "confidence"), [(299, 0.01, 0.95), (300, 0.05, 0.95), (1000, 0.01, 0.999), (60, 0.5, 0.9)]
)
def test_order_statistic_covers_the_quantile(num_trials: int, fraction: float, confidence: float) -> None:
    rank = bound_rank(num_trials, fraction, confidence)
    # The r-th smallest of n uniform numbers is Beta(r, n - r + 1): the bound fails where it lies above the true quantile.
    statistics = np.random.default_rng(1).beta(rank, num_trials - rank + 1, size=REPEATS)
    assert (statistics > fraction).sum() <= _largest_count(1 - confidence, REPEATS)
    tighter = np.random.default_rng(2).beta(rank + 1, num_trials - rank, size=REPEATS)
    assert (tighter > fraction).mean() > (1 - confidence)  # One rank more would break the promise: the bound is the tightest one.


def test_kpp_covers_discrete_accuracies_with_ties() -> None:
    generator, num_samples = np.random.default_rng(3), 50
    true_quantile = float(stats.binom.ppf(0.05, num_samples, 0.9)) / num_samples
    accuracies = generator.binomial(num_samples, 0.9, size=(2000, 93)) / num_samples
    bounds = [kpp_of_scores(row, k=5.0, confidence=0.95).bound for row in accuracies]
    broken = sum(bound is not None and bound > true_quantile for bound in bounds)
    assert broken <= _largest_count(0.05, 2000)


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3])
def test_clopper_pearson_covers_the_rate(rate: float) -> None:
    counts = np.random.default_rng(4).binomial(500, rate, size=REPEATS)
    upper = {int(count): clopper_pearson_upper(int(count), 500, 0.95) for count in np.unique(counts)}
    assert sum(upper[int(count)] < rate for count in counts) <= _largest_count(0.05, REPEATS)
