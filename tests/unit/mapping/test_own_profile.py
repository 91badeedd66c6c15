"""Weights of few bits take few devices."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.effect_tables import FaultsTable
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine import kernel, reference
from cimrobust.mapping.device_levels import fold_levels, target_levels
from cimrobust.mapping.own_profile import own_profile, with_stated_bits
from cimrobust.mapping.place import place, place_layer
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

MAPPINGS = ["sign_magnitude", "differential", "offset"]


def profile(
    mapping: str = "sign_magnitude", *, bits: int = 8, device_bits: int = 2, faults: bool = False
) -> DeviceProfile:
    table = FaultsTable(stuck_low=0.02, stuck_high=0.02) if faults else None
    device = DeviceTable(bits=device_bits, tolerance=0.03, sigma=0.01)
    return DeviceProfile(
        "p", "test", weight=WeightTable(bits, "tensor", mapping), device=device, faults=table
    )


def layer(bits: int | None, rule: int | None = None) -> CrossbarLayer:
    """40 x 6 integers of as many bits as they are stated to have, scale 0.1."""
    top = 2 ** ((bits or 8) - 1)
    levels = np.random.default_rng(bits or 0).integers(-top, top, (40, 6)).astype(np.int32)
    levels[0] = -top
    values = (levels * np.float32(0.1)).astype(np.float32)
    column = np.ascontiguousarray(np.broadcast_to(np.arange(6, dtype=np.int32), values.shape))
    return CrossbarLayer(
        "w", (), values.shape, 1, 40, 6, values, column, levels, rule=rule, bits=bits
    )


@pytest.mark.parametrize(
    ("bits", "device_bits", "slices"),
    [
        (None, 2, 4),
        (8, 2, 4),
        (7, 2, 4),
        (6, 2, 3),
        (4, 2, 2),
        (3, 2, 2),
        (2, 2, 1),
        (1, 2, 1),
        (4, 1, 4),
        (4, 4, 1),
        (4, 3, 2),
        (16, 2, 4),
    ],
)
def test_devices_follow_the_bits_of_the_file(
    bits: int | None, device_bits: int, slices: int
) -> None:
    tensor = place_layer(layer(bits), own_profile(layer(bits), profile(device_bits=device_bits)))
    assert tensor.num_slices == slices
    assert tensor.num_devices == slices * 240


def test_the_offset_mapping_has_one_bit_more() -> None:
    assert [
        place_layer(layer(bits), own_profile(layer(bits), profile("offset"))).num_slices
        for bits in (1, 2, 3, 4, 8)
    ] == [1, 2, 2, 3, 5]


@pytest.mark.parametrize("device_bits", [1, 2, 4])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_the_box_is_that_of_the_dequantised_weights(bits: int, device_bits: int) -> None:
    tensor = place_layer(layer(bits), own_profile(layer(bits), profile(device_bits=device_bits)))
    np.testing.assert_allclose(tensor.box_radius, 0.03 * 0.1 * 2 ** (bits - 1), rtol=1e-6)


@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_devices_fold_to_the_weights_and_kernel_and_reference_draw_the_same(
    bits: int, mapping: str, faults: bool
) -> None:
    scan = LayerScan((layer(bits),), (), is_decided=True)
    placement = place(scan, profile(mapping, faults=faults))
    tensor = placement.tensors["w"]
    np.testing.assert_allclose(
        fold_levels(tensor, target_levels(tensor)), tensor.nominal, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(tensor.nominal, scan.layers[0].values)
    for trial in range(3):
        drawn = {"w": np.empty((40, 6), np.float32)}
        kernel.program_chip(placement, seed=5, trial=trial, out=drawn)
        np.testing.assert_allclose(
            drawn["w"],
            reference.program_chip(placement, seed=5, trial=trial)["w"],
            rtol=1e-6,
            atol=1e-7,
        )
        if not faults:
            deviation = drawn["w"].astype(np.float64) - tensor.nominal
            assert (deviation >= tensor.lo - 1e-6).all()
            assert (deviation <= tensor.hi + 1e-6).all()


def test_a_rule_of_fewer_bits_decides_where_it_asks_for_fewer_devices() -> None:
    rules = (
        LayerRule(match="w", weight=WeightTable(2), device=DeviceTable(bits=2, tolerance=0.03)),
    )
    with_rules = DeviceProfile("p", "test", device=DeviceTable(bits=2, tolerance=0.03), rules=rules)
    assert place_layer(layer(8, rule=0), own_profile(layer(8, rule=0), with_rules)).num_slices == 1
    assert own_profile(layer(None), with_rules).weight.bits == 8


def test_profiles_that_have_so_few_slices_anyway_are_left_alone() -> None:
    narrow = profile(bits=3)
    assert with_stated_bits(narrow, 4) is narrow
    assert with_stated_bits(narrow, None) is narrow
