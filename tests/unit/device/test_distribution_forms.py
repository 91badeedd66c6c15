"""Quantiles of where a device ends, against closed forms of SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.distribution import Quantile, final_quantile, programming_quantile
from cimrobust.device.effect_tables import DriftTable, RelaxationTable
from cimrobust.device.profile import DeviceProfile

SHARES = np.array([1e-6, 1e-3, 0.01, 0.1, 0.25, 0.5])
EXACT = DeviceTable(tolerance=0.0, sigma=0.0)
FREE = DeviceTable(distribution="gaussian", sigma=0.02)


def profile(device: DeviceTable, **effects: object) -> DeviceProfile:
    return DeviceProfile("test", "test", device=device, **effects)  # type: ignore[arg-type]


def assert_is(quantile: Quantile, wanted: object, *, rtol: float = 1e-9) -> None:
    """Hold a quantile function from both ends against a distribution of SciPy."""
    low, high = (quantile(SHARES, from_top) for from_top in (False, True))
    np.testing.assert_allclose(low, wanted.ppf(SHARES), rtol=rtol, atol=1e-15)  # type: ignore[attr-defined]
    np.testing.assert_allclose(high, wanted.isf(SHARES), rtol=rtol, atol=1e-15)  # type: ignore[attr-defined]


def test_a_verified_gaussian_is_truncated_at_its_tolerance() -> None:
    made = programming_quantile(profile(DeviceTable(tolerance=0.03, sigma=0.02)), 0)
    assert_is(made, stats.truncnorm(-1.5, 1.5, scale=0.02))


def test_of_two_sides_each_is_truncated_at_its_own() -> None:
    device = DeviceTable(tolerance_low=0.01, tolerance_high=0.04, sigma=0.02)
    assert_is(programming_quantile(profile(device), 0), stats.truncnorm(-0.5, 2.0, scale=0.02))


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.03), (0.01, 0.05)])
def test_uniform_errors_fill_their_tolerance(low: float, high: float) -> None:
    device = DeviceTable(distribution="uniform", tolerance_low=low, tolerance_high=high)
    assert_is(programming_quantile(profile(device), 0), stats.uniform(-low, low + high))


def test_a_table_of_quantiles_is_read_between_its_rows() -> None:
    table = (-0.04, -0.01, 0.0, 0.02, 0.03)
    device = DeviceTable(distribution="table", quantiles=table)
    made = programming_quantile(profile(device), 0)
    shares = np.array([0.0, 0.1, 0.25, 0.375, 0.5])
    np.testing.assert_allclose(made(shares, False), [-0.04, -0.028, -0.01, -0.005, 0.0])
    np.testing.assert_allclose(made(shares, True), [0.03, 0.026, 0.02, 0.01, 0.0], atol=1e-15)


def test_relaxation_of_a_gaussian_adds_in_squares() -> None:
    made = final_quantile(profile(FREE, relaxation=RelaxationTable(sigma=0.015)), 0)
    assert_is(made, stats.norm(scale=0.025))


def test_relaxation_of_an_exact_device_is_that_of_the_relaxation() -> None:
    made = final_quantile(profile(EXACT, relaxation=RelaxationTable(sigma=0.015)), 0)
    assert_is(made, stats.norm(scale=0.015))


def test_a_shift_moves_and_widens_with_the_logarithm_of_time() -> None:
    drift = DriftTable(
        time_seconds=math.exp(2.0),
        model="shift",
        mean=-0.01,
        sd=0.003,
        mean_per_log_second=-0.02,
        sd_per_log_second=0.004,
    )
    assert_is(final_quantile(profile(EXACT, drift=drift), 0), stats.norm(-0.05, 0.011))
    exact = DriftTable(time_seconds=math.exp(2.0), model="shift", mean_per_log_second=-0.02)
    made = final_quantile(profile(DeviceTable(tolerance=0.03, sigma=0.02), drift=exact), 0)
    assert_is(made, stats.truncnorm(-1.5, 1.5, loc=-0.04, scale=0.02))


TOP = 3  # level of two bits whose conductance is 1


def test_a_power_law_of_one_exponent_scales_the_conductance() -> None:
    drift = DriftTable(time_seconds=math.exp(2.0), exponent_mean=0.05)
    made = final_quantile(
        profile(DeviceTable(bits=2, tolerance=0.03, sigma=0.02), drift=drift), TOP
    )
    factor = math.exp(-0.1)
    scaled = stats.truncnorm(-1.5, 1.5, loc=factor - 1.0, scale=0.02 * factor)
    assert_is(made, scaled)


def test_a_power_law_of_drawn_exponents_is_log_normal() -> None:
    drift = DriftTable(time_seconds=math.exp(2.0), exponent_mean=0.05, exponent_sd=0.01)
    made = final_quantile(profile(DeviceTable(bits=2, tolerance=0.0, sigma=0.0), drift=drift), TOP)
    assert_is(made, stats.lognorm(0.02, loc=-1.0, scale=math.exp(-0.1)))


def test_before_its_reference_time_nothing_drifts() -> None:
    drift = DriftTable(time_seconds=0.5, exponent_mean=0.05, exponent_sd=0.01)
    device = DeviceTable(bits=2, tolerance=0.03, sigma=0.02)
    assert_is(
        final_quantile(profile(device, drift=drift), TOP), stats.truncnorm(-1.5, 1.5, scale=0.02)
    )


def test_a_sum_without_a_closed_form_is_that_of_drawn_ones() -> None:
    """A Gaussian added to a truncated one."""
    device = DeviceTable(tolerance=0.02, sigma=0.03)
    made = final_quantile(profile(device, relaxation=RelaxationTable(sigma=0.01)), 0)
    random = np.random.default_rng(0)
    total = stats.truncnorm(-2 / 3, 2 / 3, scale=0.03).rvs(400_000, random_state=random)
    total = total + random.normal(scale=0.01, size=total.size)
    for share in (0.01, 0.1, 0.3, 0.5):
        seen = float(np.mean(total <= made(np.array([share]), False)))
        # 5 standard deviations of a share of 400,000 draws: false alarms below 1e-6.
        assert abs(seen - share) <= 5 * math.sqrt(share * (1 - share) / total.size)
