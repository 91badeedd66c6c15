"""Counts against the library that takes long to import."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cimrobust.binomial import at_least, beta_quantile, sign_test


def test_tails_are_those_of_scipy_to_the_last_bit():
    rng = np.random.default_rng(1)
    trials = rng.integers(1, 10_000, 3000)
    events = 1 + (rng.random(3000) ** 2 * trials).astype(int)
    expected = stats.binom.sf(events - 1, trials, 0.07)
    assert np.array_equal(at_least(events, trials, 0.07), expected)


def test_more_events_than_trials_never_happen():
    assert at_least(4, 3, 0.5) == 0.0


def test_quantiles_are_those_of_scipy_to_the_last_bit():
    rng = np.random.default_rng(2)
    drawn = [(int(a), int(b)) for a, b in rng.integers(1, 3000, (300, 2))]
    assert [beta_quantile(0.95, a, b) for a, b in drawn] == [
        float(stats.beta.ppf(0.95, a, b)) for a, b in drawn
    ]


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 1), (5, 5), (2, 9), (40, 11), (0, 300)])
def test_the_sign_test_is_that_of_scipy(first, second):
    expected = float(stats.binomtest(first, first + second, 0.5).pvalue)
    assert sign_test(first, second) == pytest.approx(expected, rel=1e-14)  # sums in another order
    assert sign_test(second, first) == sign_test(first, second)
