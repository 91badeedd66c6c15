"""Distributions of drawn devices; seeds are fixed, and every bound is missed by chance with a
probability below 1e-6.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from cimrobust import _native
from cimrobust.device.load_profile import load_profile
from cimrobust.device.quantiles import quantile, tabulate
from cimrobust.engine.kernel import program_chip
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

NUM = 250_000
# Kolmogorov-Smirnov distance that a right sample of this size passes with probability 1e-6
# (Massart's constant).
KS_BOUND = np.sqrt(np.log(2 / 1e-6) / (2 * NUM))


def devices(profile, *, key=1, trial=0, per_weight=4) -> np.ndarray:
    """Deviations as fractions of the full range [NUM / per_weight, per_weight]."""
    table = tabulate(profile)
    drawn = _native.draw_deviations(
        NUM // per_weight, per_weight, table.knots, table.slopes, key=key, trial=trial
    )
    return drawn.astype(np.float64) / (2**profile.device.bits - 1)


def changed(**device):
    base = load_profile("rram-write-verify-3pct")
    return dataclasses.replace(base, device=dataclasses.replace(base.device, **device))


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (changed(), stats.truncnorm(-3, 3, scale=0.01)),
        (changed(sigma=0.004), stats.truncnorm(-7.5, 7.5, scale=0.004)),
        (changed(sigma=0.05), stats.truncnorm(-0.6, 0.6, scale=0.05)),
        (changed(distribution="uniform"), stats.uniform(-0.03, 0.06)),
        (changed(distribution="gaussian", tolerance=None), stats.norm(scale=0.01)),
    ],
    ids=["3 sigma", "7.5 sigma", "0.6 sigma", "uniform", "gaussian"],
)
def test_deviations_follow_the_stated_distribution(profile, expected):
    drawn = devices(profile).ravel()
    assert stats.kstest(drawn, expected.cdf).statistic < KS_BOUND
    assert abs(drawn.mean()) < 6 * expected.std() / np.sqrt(NUM)


@pytest.mark.parametrize("probability", [1e-9, 1e-6, 1e-4, 0.01, 0.3, 0.4999])
def test_table_keeps_the_shape_of_the_tails(probability):
    profile = changed(distribution="gaussian", tolerance=None)
    table = tabulate(profile)
    distance = probability * 2.0**32
    bits = np.float32(distance).view(np.uint32)
    index = int((bits >> 17) - (np.float32(0.5).view(np.uint32) >> 17))
    place_in_segment = int(bits & ((1 << 17) - 1)) / (1 << 17)
    value = (table.knots[index] + table.slopes[index] * place_in_segment) / 3
    exact = quantile(profile, np.array([probability]), from_top=False)[0]
    assert value == pytest.approx(exact, abs=1e-4 * 0.01)


@pytest.mark.parametrize("probability", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("sign", [-1, 1])
def test_rare_deviations_are_as_rare_as_stated(probability, sign):
    table = tabulate(changed(distribution="gaussian", tolerance=None))
    drawn = _native.draw_deviations(2**22, 4, table.knots, table.slopes, key=8, trial=3)
    beyond = int((sign * drawn > 3 * 0.01 * -stats.norm.ppf(probability)).sum())
    assert stats.binomtest(beyond, drawn.size, probability).pvalue > 1e-7


@pytest.mark.parametrize("num", [2, 5, 101, 1000])
def test_steps_in_a_measured_table_move_probability_by_a_segment_at_most(num):
    values = np.where(np.arange(num) < num // 2, -0.03, 0.03)
    drawn = devices(
        changed(distribution="table", tolerance=None, sigma=None, quantiles=tuple(values))
    ).ravel()
    probability, slack = (
        (np.arange(NUM) + 0.5) / NUM,
        1 / 256 + KS_BOUND,
    )  # 1/256: the widest segment of `tabulate`
    below, above = (
        np.interp(probability + shift, np.linspace(0.0, 1.0, num), values)
        for shift in (-slack, slack)
    )
    assert (np.sort(drawn) >= below - 1e-8).all()  # 1e-8: float32 rounding at 0.03
    assert (np.sort(drawn) <= above + 1e-8).all()


def test_measured_quantiles_are_drawn_as_given():
    profile = changed(
        distribution="table", tolerance=None, sigma=None, quantiles=(-0.02, -0.01, 0.0, 0.005, 0.03)
    )
    drawn = devices(profile).ravel()
    assert drawn.min() >= -0.02 - 1e-9
    assert drawn.max() <= 0.03 + 1e-9
    for probability, value in zip((0.25, 0.5, 0.75), (-0.01, 0.0, 0.005), strict=True):
        share = (drawn <= value).mean()
        assert (
            abs(share - probability) < 6 * np.sqrt(probability * (1 - probability) / NUM) + 0.004
        )  # knots lie 0.004 apart at 1/4


def test_devices_trials_and_layers_are_uncorrelated():
    first = devices(changed())
    rows = first.shape[0]
    bound = 6 / np.sqrt(rows)
    correlation = np.corrcoef(first.T)
    assert np.abs(correlation[~np.eye(4, dtype=bool)]).max() < bound
    assert abs(np.corrcoef(first[:-1, 0], first[1:, 0])[0, 1]) < bound
    for other in (devices(changed(), trial=1), devices(changed(), key=2)):
        assert abs(np.corrcoef(first[:, 0], other[:, 0])[0, 1]) < bound


def test_spread_of_a_weight_adds_up_its_slices():
    shape = (500, 200)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    column = np.zeros(shape, dtype=np.int32)
    placement = place(
        LayerScan((CrossbarLayer("w", (), shape, 1, *shape, values, column),), ()),
        changed(sigma=0.002),
    )
    deviation = program_chip(placement, seed=0, trial=0)["w"] - placement.tensors["w"].nominal
    # notes-papers 1.2: sqrt(sum_j 4^(jK)) / sum_j 2^(jK) = 0.7776 for M = 8, K = 2.
    expected = float(np.abs(values).max()) * 0.002 * np.sqrt(1 + 16 + 256 + 4096) / 85
    assert deviation.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * values.size) + 1e-4)
