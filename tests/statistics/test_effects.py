"""Drawn devices with state-dependent spread, faults, relaxation and drift; seeds are fixed, every
bound is missed by chance below 1e-6.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.effect_tables import DriftTable, FaultsTable, RelaxationTable
from cimrobust.device.intervals import level_bounds
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.window import WindowTable
from cimrobust.engine.kernel import program_chip, program_devices
from cimrobust.mapping.device_levels import target_levels
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

NUM = 200_000
# Kolmogorov-Smirnov distance that a right sample of this size passes with probability 1e-6
# (Massart), and half the widest segment of a table.
KS_BOUND = np.sqrt(np.log(2 / 1e-6) / (2 * NUM)) + 1 / 512
PCM = Curve(
    "polynomial", (0.26348, 1.9650, -1.1731), unit="microsiemens", reference_g_max_microsiemens=25.0
)
WINDOW = WindowTable(0.0, 25.0)
EXACT = DeviceTable(bits=3, tolerance=0.0, sigma=0.0)


def profile(device: DeviceTable, **tables) -> DeviceProfile:
    return DeviceProfile(
        "p", "test", weight=WeightTable(3), device=device, **{"window": WINDOW, **tables}
    )


def devices(profile: DeviceProfile, level: int, *, trial: int = 0, seed: int = 1) -> np.ndarray:
    """Deviations of NUM devices of one level, as fractions of the full range; one more device holds
    the highest level.
    """
    values = np.full((NUM + 1, 1), level, dtype=np.float32)
    values[-1] = 7
    placement = place(
        LayerScan(
            (
                CrossbarLayer(
                    "w", (), values.shape, 1, NUM + 1, 1, values, np.zeros(values.shape, np.int32)
                ),
            ),
            (),
        ),
        profile,
    )
    drawn = program_devices(placement, seed=seed, trial=trial)["w"].astype(np.float64)
    return (drawn - target_levels(placement.tensors["w"]))[0, :-1] / 7


@pytest.mark.parametrize("level", [0, 2, 7])
def test_state_dependent_sigma_is_that_of_the_curve(level):
    drawn = devices(profile(DeviceTable(bits=3, distribution="gaussian", sigma=PCM)), level)
    x = level / 7
    sigma = (0.26348 + 1.9650 * x - 1.1731 * x**2) / 25
    assert stats.kstest(drawn, stats.norm(scale=sigma).cdf).statistic < KS_BOUND
    assert drawn.std() == pytest.approx(sigma, rel=6 / np.sqrt(2 * NUM))


@pytest.mark.parametrize("level", [1, 6])
def test_a_tolerance_of_two_sides_truncates_on_both(level):
    drawn = devices(
        profile(DeviceTable(bits=3, tolerance_low=0.01, tolerance_high=0.04, sigma=0.02)), level
    )
    assert stats.kstest(drawn, stats.truncnorm(-0.5, 2.0, scale=0.02).cdf).statistic < KS_BOUND
    assert drawn.min() >= -0.01 - 1e-7
    assert drawn.max() <= 0.04 + 1e-7


@pytest.mark.parametrize("sigma", [0.0005, 0.01, 0.1])
def test_relaxation_adds_a_gaussian_to_what_was_verified(sigma):
    drawn = devices(
        profile(
            DeviceTable(bits=3, tolerance=0.03, distribution="uniform"),
            relaxation=RelaxationTable(sigma),
        ),
        4,
    )
    grid = np.linspace(-0.6, 0.6, 4001)
    scaled = lambda z: z * stats.norm.cdf(z) + stats.norm.pdf(z)  # noqa: E731 - integral of the normal distribution function
    exact = (scaled((grid + 0.03) / sigma) - scaled((grid - 0.03) / sigma)) * sigma / 0.06
    assert stats.kstest(drawn, lambda value: np.interp(value, grid, exact)).statistic < KS_BOUND
    assert drawn.std() == pytest.approx(np.hypot(0.03 / np.sqrt(3), sigma), rel=0.01)


def test_power_drift_of_exact_devices_is_log_normal():
    drift = DriftTable(86400.0, 20.0, exponent_mean=0.06, exponent_sd=0.02)
    drawn = devices(profile(EXACT, drift=drift), 5)
    log_time = np.log(86400 / 20)
    exact = stats.lognorm(0.02 * log_time, scale=5 / 7 * np.exp(-0.06 * log_time))
    assert stats.kstest(drawn + 5 / 7, exact.cdf).statistic < KS_BOUND
    assert drawn.mean() + 5 / 7 == pytest.approx(exact.mean(), abs=6 * exact.std() / np.sqrt(NUM))


@pytest.mark.parametrize(
    ("level", "clips"),
    [(0, False), (0, True), (0, "zero"), (2, False), (7, True), (7, "zero")],
)
def test_all_effects_together_follow_the_order_stated(level, clips):
    window = WindowTable(1.0, 25.0, clips)
    drift = DriftTable(1e6, 20.0, exponent_mean=0.06, exponent_sd=0.02)
    made = profile(
        DeviceTable(bits=3, tolerance=0.04, sigma=PCM),
        window=window,
        relaxation=RelaxationTable(0.02),
        drift=drift,
    )
    drawn = devices(made, level)
    random = np.random.default_rng(7)
    sigma = float(PCM.at(np.array([level / 7]), window)[0])
    g = (
        level / 7
        + stats.truncnorm.rvs(
            -0.04 / sigma, 0.04 / sigma, scale=sigma, size=NUM, random_state=random
        )
        + 0.02 * random.standard_normal(NUM)
    )
    ends = {False: (-np.inf, np.inf), True: (0.0, 1.0), "zero": (-1 / 24, np.inf)}[clips]
    g = np.clip(g, *ends)
    g = (g + 1 / 24) * (1e6 / 20) ** -(0.06 + 0.02 * random.standard_normal(NUM)) - 1 / 24
    # A clamped device is an atom, which the kernel hits up to rounding.
    g, drawn = np.round(np.clip(g, *ends), 7), np.round(drawn + level / 7, 7) - level / 7
    assert (
        stats.ks_2samp(drawn, g - level / 7).statistic < np.sqrt(np.log(2 / 1e-6) / NUM) + 1 / 512
    )
    for share in (1e-3, 0.05, 0.5, 0.95, 0.999):
        below = (drawn < np.quantile(g - level / 7, share)).mean()
        assert below <= share + 8 * np.sqrt(2 * share * (1 - share) / NUM) + 1 / 512


def test_shifts_have_the_stated_mean_and_spread():
    drift = DriftTable(
        3600.0,
        1.0,
        model="shift",
        mean=0.01,
        sd=0.02,
        mean_per_log_second=-0.005,
        sd_per_log_second=0.001,
    )
    drawn = devices(profile(EXACT, drift=drift), 3)
    mean, sd = 0.01 - 0.005 * np.log(3600), 0.02 + 0.001 * np.log(3600)
    assert stats.kstest(drawn, stats.norm(mean, sd).cdf).statistic < KS_BOUND


def test_compensation_multiplies_what_is_read():
    drift = DriftTable(86400.0, 20.0, exponent_mean=0.06, exponent_sd=0.01)
    plain, compensated = (
        profile(EXACT, drift=drift),
        profile(EXACT, drift=dataclasses.replace(drift, compensation="global")),
    )
    read = [devices(made, 5) + 5 / 7 for made in (plain, compensated)]
    factor = np.exp(0.06 * np.log(4320) - 0.5 * (0.01 * np.log(4320)) ** 2)
    np.testing.assert_allclose(read[1], factor * read[0], rtol=1e-5)
    assert read[1].mean() == pytest.approx(5 / 7, abs=6 * read[1].std() / np.sqrt(NUM))


def test_exclusion_is_as_probable_as_stated():
    made = profile(
        DeviceTable(bits=3, tolerance=0.02, sigma=PCM),
        relaxation=RelaxationTable(0.02, z=2.0),
        drift=DriftTable(1e4, 1.0, exponent_mean=0.01, exponent_sd=0.01, z=2.0),
    )
    low, high = (bound / 7 for bound in level_bounds(made))
    outside = [
        np.count_nonzero((drawn := devices(made, level)) < low[level])
        + np.count_nonzero(drawn > high[level])
        for level in range(8)
    ]
    assert (
        0
        < max(outside)
        <= NUM * excluded_probability(made) + 6 * np.sqrt(NUM * excluded_probability(made))
    )
    for level in (0, 4):
        bare = profile(
            DeviceTable(bits=3, distribution="gaussian", sigma=PCM, z=2.0),
            relaxation=RelaxationTable(0.0),
        )
        reach = level_bounds(bare)[1][level] / 7
        missed = np.count_nonzero(np.abs(devices(bare, level)) > reach)
        assert stats.binomtest(missed, NUM, excluded_probability(bare)).pvalue > 1e-7


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.01), (0.0, 0.2), (1e-4, 0.0), (0.5, 0.4)])
def test_faults_are_as_frequent_as_stated_in_each_polarity(low, high):
    drawn = devices(profile(EXACT, faults=FaultsTable(low, high)), 3)
    for level, rate in ((0, low), (7, high)):
        stuck = int(np.count_nonzero(np.isclose(drawn, (level - 3) / 7)))
        assert stats.binomtest(stuck, NUM, rate).pvalue > 1e-7 if rate else stuck == 0
    np.testing.assert_array_equal(
        np.unique(np.round(drawn * 7)),
        [level - 3 for level, rate in ((0, low), (3, 1), (7, high)) if rate],
    )


def test_stuck_devices_neither_deviate_nor_drift():
    made = profile(
        DeviceTable(bits=3, tolerance=0.03, sigma=0.01),
        faults=FaultsTable(0.3, 0.3),
        drift=DriftTable(1e6, 1.0, exponent_mean=0.1, exponent_sd=0.01),
    )
    read = devices(made, 3) + 3 / 7
    assert 0.58 < np.mean((read == 0) | (np.abs(read - 1) < 1e-7)) < 0.62


def test_devices_of_one_state_layers_and_trials_are_uncorrelated():
    made = profile(
        DeviceTable(bits=3, tolerance=0.04, sigma=PCM),
        relaxation=RelaxationTable(0.01),
        drift=DriftTable(1e4, 1.0, exponent_mean=0.06, exponent_sd=0.02),
    )
    first = devices(made, 4)
    bound = 6 / np.sqrt(NUM)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 1.5 * bound
    for other in (devices(made, 4, trial=1), devices(made, 4, seed=2)):
        assert abs(np.corrcoef(first, other)[0, 1]) < bound


def test_faults_are_independent_of_deviations_and_of_each_other():
    made = profile(
        DeviceTable(bits=3, distribution="gaussian", sigma=0.03), faults=FaultsTable(0.3, 0.0)
    )
    stuck = devices(made, 3) == -3 / 7
    deviation = devices(made.with_effects(faults=False), 3)
    assert abs(np.corrcoef(stuck, deviation)[0, 1]) < 6 / np.sqrt(NUM)
    assert abs(np.corrcoef(stuck[:-1], stuck[1:])[0, 1]) < 6 / np.sqrt(NUM)


def test_stuck_weights_leave_the_box_and_only_they():
    made = dataclasses.replace(
        profile(DeviceTable(bits=3, tolerance=0.03, sigma=0.01)), faults=FaultsTable(0.01, 0.01)
    )
    values = np.random.default_rng(0).standard_normal((300, 100)).astype(np.float32)
    placement = place(
        LayerScan(
            (
                CrossbarLayer(
                    "w", (), values.shape, 1, 300, 100, values, np.zeros(values.shape, np.int32)
                ),
            ),
            (),
        ),
        made,
    )
    tensor = placement.tensors["w"]
    deviation = program_chip(placement, seed=1, trial=0)["w"] - tensor.nominal
    outside = (deviation < 1.001 * tensor.lo) | (deviation > 1.001 * tensor.hi)
    levels = program_devices(placement, seed=1, trial=0)["w"].reshape(tensor.shape)
    assert outside.any()
    assert np.isin(levels[outside], [0.0, 7.0]).all()
