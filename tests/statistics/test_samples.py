"""Coverage of the intervals for a finite evaluation set, by simulation on known distributions.

Each end of an interval at confidence c may be broken with probability (1 - c) / 2; an end that is
broken exactly that often fails its test with probability below 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cimrobust.montecarlo.sample_uncertainty import accuracy_interval, hoeffding_lower

REPEATS = 10_000


def _largest_count(rate: float) -> int:
    return int(stats.binom.isf(1e-6, REPEATS, rate))


@pytest.mark.parametrize("accuracy", [0.03, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("samples", [30, 500])
def test_interval_of_a_fixed_network_covers_at_both_ends(accuracy: float, samples: int) -> None:
    counts = np.random.default_rng(1).binomial(samples, accuracy, size=REPEATS)
    intervals = {
        int(right): accuracy_interval(right / samples, num_decisions=samples, num_inputs=samples)
        for right in np.unique(counts)
    }
    low, high = (
        np.array([getattr(intervals[int(right)], end) for right in counts])
        for end in ("low", "high")
    )
    assert (low > accuracy).sum() <= _largest_count(0.025)
    assert (high < accuracy).sum() <= _largest_count(0.025)


def test_interval_of_a_mean_over_chips_covers() -> None:
    """Twenty chips on shared samples: what one chip gets wrong the others tend to get wrong too."""
    generator = np.random.default_rng(2)
    chips, samples = generator.beta(30, 3, size=20), 100
    broken = np.zeros(2, dtype=int)
    for _ in range(REPEATS):
        difficulty = generator.random(samples)
        mean = float((difficulty[:, None] < chips).mean())
        interval = accuracy_interval(
            mean, num_decisions=samples, num_inputs=samples, is_average=True
        )
        broken += [interval.low > chips.mean(), interval.high < chips.mean()]
    assert broken.max() <= _largest_count(0.025)


def test_hoeffding_covers_samples_of_many_decisions_where_the_binomial_does_not() -> None:
    """Nine decisions a sample, all right or all wrong: taken for 900 draws they would break the
    exact interval far more often than stated.
    """
    right = np.random.default_rng(3).binomial(100, 0.9, size=REPEATS) / 100
    bounds = {value: hoeffding_lower(value, 100, 0.95) for value in np.unique(right)}
    assert sum(bounds[value] > 0.9 for value in right) <= _largest_count(0.05)
    pooled = {
        value: accuracy_interval(value, num_decisions=900, num_inputs=900, confidence=0.9).low
        for value in np.unique(right)
    }
    assert sum(pooled[value] > 0.9 for value in right) > _largest_count(0.05)


def test_interval_covers_where_samples_have_different_numbers_of_decisions() -> None:
    """Samples with many decisions are worse: a mean of fractions a sample would be about another
    number than the accuracy.
    """
    generator, most, samples = np.random.default_rng(4), 8, 60
    chance = np.linspace(0.99, 0.7, most)
    counts = np.arange(1, most + 1)
    true = float((chance * counts).sum() / counts.sum())
    broken, repeats = np.zeros(2, dtype=int), 2000
    for _ in range(repeats):
        drawn = generator.integers(1, most + 1, size=samples)
        right = np.where(generator.random(samples) < chance[drawn - 1], drawn, 0)
        accuracy, total = float(right.sum() / drawn.sum()), int(drawn.sum())
        interval = accuracy_interval(accuracy, num_decisions=total, num_inputs=samples, most=most)
        broken += [interval.low > true, interval.high < true]
    assert broken.max() <= stats.binom.isf(1e-6, repeats, 0.025)
