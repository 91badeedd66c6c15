"""Single devices: targets, drift compensation, boxes that depend on the level."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable, FaultsTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.window import WindowTable
from cimrobust.errors import InputRefusedError
from cimrobust.mapping.device_levels import (
    fold_levels,
    spread_deviation,
    target_levels,
    whole_levels,
)
from cimrobust.mapping.place import drift_factor, place, place_layer
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


def layer(values, levels=None) -> CrossbarLayer:
    values = np.asarray(values, dtype=np.float32)
    column = np.ascontiguousarray(
        np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)
    )
    return CrossbarLayer("w", (), values.shape, 1, *values.shape, values, column, levels)


def profile(mapping="sign_magnitude", bits=2, weight_bits=4, **tables) -> DeviceProfile:
    device = tables.pop("device", DeviceTable(bits=bits, tolerance=0.1, sigma=0.03))
    return DeviceProfile(
        "p",
        "test",
        weight=WeightTable(weight_bits, "tensor", mapping),
        device=dataclasses.replace(device, bits=bits),
        **tables,
    )


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("sign_magnitude", [[3, 2, 0], [3, 1, 0]]),
        ("differential", [[3, 0, 0], [3, 0, 0], [0, 2, 0], [0, 1, 0]]),
        ("offset", [[3, 2, 0], [3, 2, 0], [1, 0, 1]]),
    ],
)
def test_levels_are_spread_over_slices_and_sides(mapping, expected):
    tensor = place_layer(
        layer([[15.0, -6.0, 0.0]]), profile(mapping)
    )  # 15 = 3 + 4 * 3; 6 = 2 + 4 * 1; offset by 16: 31, 10, 16
    np.testing.assert_array_equal(target_levels(tensor), expected)
    np.testing.assert_array_equal(fold_levels(tensor, np.array(expected)), tensor.nominal)


def test_fractional_levels_leave_their_remainder_to_slice_0():
    levels = np.array([[7, -3]], dtype=np.int32)
    tensor = place_layer(layer(levels * 0.5, levels), profile())
    np.testing.assert_allclose(
        target_levels(tensor), [[3, 2 + 3 / 7], [3, 1]], rtol=1e-6
    )  # 3 / 7 of 15 levels are 6.43
    np.testing.assert_array_equal(whole_levels(tensor), [[3, 2], [3, 1]])


def test_the_box_of_a_weight_follows_the_levels_of_its_slices():
    tolerance = Curve("points", x=(0.0, 1.0), y=(0.01, 0.04))
    tensor = place_layer(
        layer([[15.0, -6.0, 0.0]]),
        profile(device=DeviceTable(tolerance=tolerance, distribution="uniform")),
    )
    np.testing.assert_allclose(
        tensor.hi, [[3 * (0.04 + 4 * 0.04), 3 * (0.03 + 4 * 0.02), 3 * 5 * 0.01]], rtol=1e-6
    )
    np.testing.assert_array_equal(tensor.lo, -tensor.hi)


def test_idle_devices_of_a_pair_count_with_the_interval_of_level_0():
    device = DeviceTable(
        tolerance_low=0.02,
        tolerance_high=Curve("points", x=(0.0, 1.0), y=(0.01, 0.04)),
        distribution="uniform",
    )
    tensor = place_layer(layer([[15.0, -15.0]]), profile("differential", device=device))
    np.testing.assert_allclose(tensor.hi, [[15 * (0.04 + 0.02), 15 * (0.01 + 0.02)]], rtol=1e-6)
    np.testing.assert_allclose(tensor.lo, [[15 * (-0.02 - 0.01), 15 * (-0.02 - 0.04)]], rtol=1e-6)


def test_clipping_keeps_levels_in_the_window():
    tensor = place_layer(
        layer([[15.0, -15.0, 0.0]]), profile(window=WindowTable(0.0, 25.0, clips=True))
    )
    np.testing.assert_allclose(tensor.hi, [[0, 1.5, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(tensor.lo, [[-1.5, 0, 0]], rtol=1e-6)


def test_spread_devices_share_a_deviation_in_proportion_to_their_intervals():
    pair = profile(
        "differential",
        device=DeviceTable(tolerance_low=0.1, tolerance_high=0.2, distribution="uniform"),
    )
    tensor = place_layer(layer([[15.0, 6.0]]), pair)
    levels = spread_deviation(tensor, np.stack([tensor.hi[0, :1] / 2, tensor.lo[0, 1:]], axis=1))
    np.testing.assert_allclose(
        levels - target_levels(tensor),
        [[0.3, -0.3], [0.3, -0.3], [-0.15, 0.6], [-0.15, 0.6]],
        rtol=1e-5,
    )


def test_compensation_undoes_drift_that_is_the_same_for_all():
    drift = DriftTable(1000.0, 1.0, exponent_mean=0.1, compensation="global")
    tensor = place_layer(
        layer([[15.0, -6.0, 2.0]]),
        profile(device=DeviceTable(tolerance=0.0, sigma=0.0), drift=drift),
    )
    assert tensor.drift_factor == pytest.approx(1000**0.1)
    np.testing.assert_allclose(tensor.hi, 0, atol=1e-6)
    np.testing.assert_allclose(tensor.lo, 0, atol=1e-6)


def test_compensation_is_the_ratio_of_the_stored_conductances():
    drift = DriftTable(
        np.e,
        1.0,
        exponent_mean=Curve("points", x=(0.0, 1.0), y=(0.0, 0.3), unit="number"),
        exponent_sd=0.1,
        compensation="global",
    )
    got = drift_factor(profile(drift=drift), np.array([5, 1, 0, 2]))
    spread = np.exp(0.5 * 0.1**2)  # mean of a log-normal
    assert got == pytest.approx((1 / 3 + 2) / (spread * (np.exp(-0.1) / 3 + 2 * np.exp(-0.3))))
    assert drift_factor(profile(drift=drift), np.array([5, 0, 0, 0])) == 1.0


def test_compensation_refuses_a_layer_that_has_drifted_to_nothing():
    drift = DriftTable(10.0, 1.0, model="shift", mean=-0.9, compensation="global")
    with pytest.raises(
        InputRefusedError,
        match="drift compensation must have a positive mean conductance to start from",
    ):
        place(LayerScan((layer([[1.0, 0.0]]),), ()), profile(drift=drift))


def test_stuck_devices_may_carry_a_weight_out_of_float32():
    base = dataclasses.replace(load_profile("rram-offset-3pct"), faults=FaultsTable(0.1, 0.1))
    with pytest.raises(InputRefusedError, match="may reach"):
        place(LayerScan((layer([[2e38]]),), ()), base)
