"""The two-source statement by simulation: chips and evaluation samples drawn anew in every repeat,
all chips judged on the same samples.

False alarm: a statement that holds exactly at its confidence is rejected with probability below
1e-6; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cimrobust.montecarlo.two_source import two_source_bound

REPEATS = 10_000


def _largest_count(rate: float) -> int:
    """Violations that a correct statement exceeds with probability below 1e-6."""
    return int(stats.binom.isf(1e-6, REPEATS, rate))


def _violations(
    true: np.ndarray, observed_of, *, seed: int, true_quantile: float, **settings
) -> int:
    """Count the repeats whose bound is above the true quantile; all chips of a repeat share the
    samples that `observed_of` draws.
    """
    generator = np.random.default_rng(seed)
    broken = 0
    for _ in range(REPEATS):
        chips = generator.choice(true, size=150)
        bound = two_source_bound(
            observed_of(generator, chips), k=10.0, confidence=0.9, **settings
        ).bound
        assert bound is not None
        broken += bound > true_quantile
    return broken


def _shared_difficulty(generator: np.random.Generator, chips: np.ndarray) -> np.ndarray:
    """Every chip is right on the samples that are easy enough for it: the accuracies of all chips
    move together.
    """
    difficulty = np.sort(generator.random(60))
    return np.searchsorted(difficulty, chips) / 60


def _independent(generator: np.random.Generator, chips: np.ndarray) -> np.ndarray:
    """Every chip errs on samples of its own."""
    return generator.binomial(60, chips) / 60


def _four_decisions(generator: np.random.Generator, chips: np.ndarray) -> np.ndarray:
    """The four decisions of a sample are all right or all wrong: 240 decisions are worth 60."""
    return np.repeat(np.sort(generator.random(60)), 4).searchsorted(chips) / 240


@pytest.mark.parametrize(
    ("observed_of", "settings"),
    [
        (_shared_difficulty, {"num_decisions": 60}),
        (_independent, {"num_decisions": 60}),
        (_four_decisions, {"num_decisions": 240, "num_inputs": 60}),
    ],
)
def test_bound_covers_when_chips_and_samples_are_drawn(observed_of, settings) -> None:
    true = stats.beta.ppf((np.arange(1000) + 0.5) / 1000, 40, 8)
    assert _violations(
        true, observed_of, seed=5, true_quantile=float(true[99]), **settings
    ) <= _largest_count(0.1)


def test_bound_covers_few_kinds_of_chips() -> None:
    """Nearly a tenth of all chips is bad; with all chips judged on the same samples, ignoring the
    samples breaks the promise.
    """
    true = np.array([0.5] * 11 + [0.9] * 89)
    assert _violations(
        true, _shared_difficulty, seed=6, true_quantile=0.5, num_decisions=60
    ) <= _largest_count(0.1)
    generator = np.random.default_rng(7)
    from_samples_alone = [
        np.sort(_shared_difficulty(generator, generator.choice(true, size=150)))[9]
        for _ in range(2000)
    ]
    assert np.mean(np.array(from_samples_alone) > 0.5) > 0.2


def test_more_decisions_than_samples_would_be_too_bold() -> None:
    """The control: counting every decision as a draw of its own breaks the bound of a single chip
    more often than stated.
    """
    generator = np.random.default_rng(8)
    broken = {60: 0, 240: 0}
    for _ in range(2000):
        observed = _four_decisions(generator, np.full(30, 0.8))
        for count in broken:
            result = two_source_bound(
                observed, num_decisions=240, num_inputs=count, k=60.0, confidence=0.2
            )
            broken[count] += result.bound is not None and result.bound > 0.8
    assert broken[240] > broken[60]
