from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cimrobust.errors import UsageError
from cimrobust.montecarlo.sample_uncertainty import (
    accuracy_interval,
    accuracy_lower,
    hoeffding_lower,
)


@pytest.mark.parametrize(("right", "samples"), [(0, 50), (49, 50), (50, 50), (1948, 2000)])
def test_one_decision_a_sample_gives_the_exact_interval(right: int, samples: int) -> None:
    interval = accuracy_interval(right / samples, num_decisions=samples, num_inputs=samples)
    exact = stats.binomtest(right, samples).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == (
        pytest.approx(exact.low, rel=1e-9),
        pytest.approx(exact.high, rel=1e-9),
    )
    assert interval.method == "Clopper-Pearson"


def test_averages_and_several_decisions_use_hoeffding() -> None:
    average = accuracy_interval(0.9, num_decisions=500, num_inputs=500, is_average=True)
    several = accuracy_interval(0.9, num_decisions=5000, num_inputs=500)
    assert average == several
    assert average.method == "Chernoff-Hoeffding"
    assert average.low == pytest.approx(hoeffding_lower(0.9, 500, 0.975))
    assert 1 - average.high == pytest.approx(hoeffding_lower(0.1, 500, 0.975))
    assert average.low < 0.9 < average.high


@pytest.mark.parametrize("mean", [1e-9, 0.01, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("samples", [1, 50, 2000])
def test_hoeffding_bound_solves_its_equation(mean: float, samples: int) -> None:
    bound = hoeffding_lower(mean, samples, 0.95)
    assert max(mean - math.sqrt(math.log(20) / (2 * samples)), 0.0) <= bound <= mean
    if bound > 0:
        divergence = mean * math.log(mean / bound) + (
            0.0 if mean == 1.0 else (1 - mean) * math.log((1 - mean) / (1 - bound))
        )
        assert samples * divergence == pytest.approx(math.log(20), rel=1e-6)


def test_hoeffding_bound_of_the_ends() -> None:
    assert hoeffding_lower(0.0, 100, 0.95) == 0.0
    assert hoeffding_lower(1.0, 100, 0.95) == pytest.approx(0.05 ** (1 / 100))
    assert np.all(
        np.diff([hoeffding_lower(mean, 100, 0.95) for mean in np.linspace(0, 1, 101)]) >= 0
    )


def test_one_sided_bound_follows_the_number_of_decisions() -> None:
    assert accuracy_lower(0.9, num_decisions=100, num_inputs=100, confidence=0.95) == pytest.approx(
        stats.beta.ppf(0.05, 90, 11)
    )
    assert accuracy_lower(
        0.9, num_decisions=300, num_inputs=100, confidence=0.95
    ) == hoeffding_lower(0.9, 100, 0.95)


@pytest.mark.parametrize(("mean", "samples"), [(1.1, 10), (-0.1, 10), (0.5, 0), (math.nan, 10)])
def test_senseless_means_are_refused(mean: float, samples: int) -> None:
    with pytest.raises(UsageError, match="mean must be"):
        hoeffding_lower(mean, samples, 0.95)


def test_a_lower_bound_with_few_decisions_of_many_is_lower_and_with_all_the_same() -> None:
    full = hoeffding_lower(0.9, 200, 0.95)
    assert hoeffding_lower(0.9, 200, 0.95, fill=1.0) == full
    bounds = [hoeffding_lower(0.9, 200, 0.95, fill=fill) for fill in (0.01, 0.1, 0.5, 0.9)]
    assert bounds == sorted(bounds)
    assert 0.0 < bounds[0] < bounds[-1] < full
    for fill, bound in zip((0.01, 0.1, 0.5, 0.9), bounds, strict=True):
        seen = bound * (1 - fill) + 0.9 * fill
        divergence = seen * np.log(seen / bound) + (1 - seen) * np.log((1 - seen) / (1 - bound))
        assert 200 * divergence == pytest.approx(np.log(1 / 0.05), rel=1e-9)


def test_as_many_decisions_as_samples_are_one_each_only_where_a_sample_has_no_more() -> None:
    one = accuracy_interval(0.9, num_decisions=100, num_inputs=100, most=1)
    several = accuracy_interval(0.9, num_decisions=100, num_inputs=100, most=4)
    assert (one.method, several.method) == ("Clopper-Pearson", "Chernoff-Hoeffding")
    assert several.low < one.low
    assert several.high > one.high


def test_samples_with_fewer_decisions_than_they_may_have_have_wider_intervals() -> None:
    fill = 150 / (100 * 4)
    interval = accuracy_interval(0.9, num_decisions=150, num_inputs=100, most=4)
    assert interval.low == hoeffding_lower(0.9, 100, 0.975, fill=fill)
    assert interval.high == 1.0 - hoeffding_lower(1.0 - 0.9, 100, 0.975, fill=fill)
    lower = accuracy_lower(0.9, num_decisions=150, num_inputs=100, most=4, confidence=0.95)
    assert lower == hoeffding_lower(0.9, 100, 0.95, fill=fill)
    full = accuracy_lower(0.9, num_decisions=400, num_inputs=100, most=4, confidence=0.95)
    assert full == hoeffding_lower(0.9, 100, 0.95) > lower
