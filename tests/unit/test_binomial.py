"""Counts and roots against the libraries that take long to import."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from cimrobust.binomial import at_least, beta_quantile, sign_test
from cimrobust.root_finding import root


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


def test_roots_are_those_of_scipy_to_the_last_bit():
    rng = np.random.default_rng(3)
    tried = 0
    for bend, slope, wave, shift in rng.normal(size=(400, 4)):

        def curve(x: float, a=bend, b=slope, c=wave, d=shift) -> float:
            return math.tanh(3 * a + (abs(b) + 0.1) * x) + 0.3 * math.sin(c * x) + d / 1000

        low, high = -50 * rng.random() - 1, 50 * rng.random() + 1
        if curve(low) * curve(high) < 0:
            tried += 1
            xtol = 10.0 ** -rng.integers(3, 16)
            assert root(curve, low, high, xtol=xtol) == optimize.brentq(curve, low, high, xtol=xtol)
    assert tried > 100


def test_a_root_needs_two_signs():
    with pytest.raises(ValueError, match="signs must differ"):
        root(lambda x: x * x + 1.0, -1.0, 1.0, xtol=1e-9)


def test_a_root_that_is_too_far_down_is_given_up():
    with pytest.raises(ValueError, match="no zero was found between"):
        root(lambda x: 1.0 if x > 1e-300 else -1.0, -1e300, 1e300, xtol=1e-320)
