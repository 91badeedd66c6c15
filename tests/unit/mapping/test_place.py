"""Placement: levels, boxes, devices, tiles."""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
import pytest

from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import InputRefusedError
from cimrobust.mapping import place as place_module
from cimrobust.mapping.place import place, place_layer
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


def layer(values, *, columns=None, groups=1, **more) -> CrossbarLayer:
    values = np.asarray(values, dtype=np.float32)
    rows, cols = values.shape
    column = (
        np.broadcast_to(np.arange(cols, dtype=np.int32), values.shape)
        if columns is None
        else columns
    )
    return CrossbarLayer(
        "w",
        (),
        values.shape,
        groups,
        rows,
        cols // groups,
        values,
        np.ascontiguousarray(column),
        **more,
    )


def profile(**changes) -> DeviceProfile:
    base = load_profile("rram-write-verify-3pct")
    weight = {key: changes.pop(key) for key in ("mapping", "scale") if key in changes}
    if "weight_bits" in changes:
        weight["bits"] = changes.pop("weight_bits")
    return dataclasses.replace(
        base,
        weight=dataclasses.replace(base.weight, **weight),
        device=dataclasses.replace(base.device, **changes),
    )


@pytest.mark.parametrize(("weight_bits", "bits"), [(8, 1), (8, 2), (8, 4), (6, 3), (4, 4), (12, 2)])
def test_box_of_sign_magnitude_is_tolerance_times_largest_weight(weight_bits, bits):
    values = np.random.default_rng(0).standard_normal((9, 5))
    placed = place_layer(layer(values), profile(weight_bits=weight_bits, bits=bits))
    expected = 0.03 * np.abs(values.astype(np.float32)).max()
    np.testing.assert_allclose(
        placed.hi, expected, rtol=2e-7
    )  # one rounding to float32, towards zero
    np.testing.assert_array_equal(placed.lo, -placed.hi)
    assert (placed.hi <= expected).all()


def test_pairs_have_twice_the_box_and_twice_the_devices():
    values = [[1.0, -0.5], [0.25, 0.0]]
    single, pair = (
        place_layer(layer(values), profile()),
        place_layer(layer(values), profile(mapping="differential")),
    )
    np.testing.assert_allclose(pair.hi, 2 * single.hi, rtol=2e-7)
    assert (single.num_devices, pair.num_devices) == (16, 32)


def test_offset_needs_one_bit_more_and_reference_cells():
    placed = place_layer(layer([[1.0, -0.5], [0.25, 0.0]]), profile(mapping="offset"))
    assert placed.num_slices == 5
    assert placed.num_devices == 4 * 5 + 2 * 5


def test_mappings_store_the_same_quantised_weights():
    values = np.random.default_rng(1).standard_normal((7, 3))
    stored = [
        place_layer(layer(values), profile(mapping=name)).nominal
        for name in ("sign_magnitude", "differential", "offset")
    ]
    np.testing.assert_array_equal(stored[0], stored[1])
    np.testing.assert_array_equal(stored[0], stored[2])


def test_quantisation_rounds_to_the_nearest_of_the_levels():
    values = np.random.default_rng(2).standard_normal((50, 4)).astype(np.float32)
    placed = place_layer(layer(values), profile(weight_bits=4))
    scale = float(np.abs(values).max()) / 15
    np.testing.assert_allclose(
        placed.nominal, np.rint(values / np.float64(scale)) * scale, rtol=1e-6
    )
    assert np.abs(placed.nominal - values).max() <= scale / 2 * (1 + 1e-6)


def test_scale_per_column_gives_each_column_its_own_box():
    placed = place_layer(layer([[1.0, 0.1], [-0.5, 0.05]]), profile(scale="column"))
    np.testing.assert_allclose(placed.hi, 0.03 * np.array([[1.0, 0.1], [1.0, 0.1]]), rtol=2e-7)


def test_integer_weights_are_levels_already():
    levels = np.array([[127, -3], [0, 64]], dtype=np.int32)
    values = (levels * np.float32(0.011)).astype(np.float32)
    placed = place_layer(layer(values, levels=levels), profile())
    np.testing.assert_array_equal(placed.nominal, values)
    np.testing.assert_allclose(placed.hi, 0.03 * 127 * 0.011, rtol=1e-6)


def test_integer_weights_with_a_scale_a_channel_have_a_box_a_channel():
    levels = np.array([[100, 50], [-20, 10]], dtype=np.int32)
    group = np.array([[0, 1], [0, 1]], dtype=np.int32)
    values = (levels * np.array([[0.01, 0.5]])).astype(np.float32)
    placed = place_layer(layer(values, levels=levels, scale_group=group), profile())
    np.testing.assert_allclose(placed.hi, 0.03 * np.array([[1.0, 25.0], [1.0, 25.0]]), rtol=1e-6)


def test_layers_of_zeros_and_empty_layers_have_no_box():
    zeros = place_layer(layer(np.zeros((3, 2))), profile())
    assert not zeros.nominal.any()
    assert not zeros.hi.any()
    empty = place_layer(layer(np.zeros((0, 2))), profile())
    assert (empty.num_devices, empty.box_radius) == (0, 0.0)


def test_a_single_weight_is_a_layer():
    placed = place_layer(layer([[-0.7]]), profile())
    np.testing.assert_array_equal(placed.nominal, np.float32([[-0.7]]))
    np.testing.assert_allclose(placed.hi, 0.03 * 0.7, rtol=2e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_weights_whose_box_leaves_float32_are_refused(value):
    scan = LayerScan((layer([[1.0, value]]), layer([[1.0, 2.0]])), ())
    with pytest.raises(
        InputRefusedError,
        match=r"weights must stay finite in float32 with their tolerance box, got .* in 'w'",
    ):
        place(scan, profile())


def test_all_layers_that_are_too_large_are_named_together():
    scan = LayerScan(
        tuple(
            dataclasses.replace(layer([[np.inf]]), initializer=name) for name in ("first", "second")
        ),
        (),
    )
    with pytest.raises(InputRefusedError, match=r"inf in 'first'.*, inf in 'second'"):
        place(scan, profile())


def test_no_tolerance_means_no_box():
    placed = place_layer(layer([[1.0, -2.0]]), with_tolerance(profile(), 0.0))
    assert placed.box_radius == 0.0


def test_negative_weights_mirror_an_asymmetric_box():
    table = profile(tolerance=None, distribution="table", quantiles=(-0.01, 0.0, 0.03), sigma=None)
    placed = place_layer(layer([[1.0, -1.0]]), table)
    np.testing.assert_allclose(placed.lo, [[-0.01, -0.03]], rtol=1e-6)
    np.testing.assert_allclose(placed.hi, [[0.03, 0.01]], rtol=1e-6)


def test_tiles_count_slices_as_bit_lines():
    placed = place_layer(layer(np.ones((200, 40))), profile())
    assert (
        placed.num_tiles == 2 * 2
    )  # 200 word lines on 128; 40 weights of 4 slices are 160 bit lines on 128


@pytest.mark.parametrize("scale", ["tensor", "column"])
def test_the_box_of_a_large_network_is_made_when_it_is_asked_for(scale, monkeypatch):
    scan = LayerScan((layer(np.random.default_rng(0).standard_normal((9, 5))),), ())
    held = place(scan, profile(scale=scale)).tensors["w"]
    assert held.lo is held.lo
    monkeypatch.setattr(place_module, "MOST_HELD", 1)
    tensor = place(scan, profile(scale=scale)).tensors["w"]
    lo, hi = tensor.limits()
    np.testing.assert_array_equal(lo, held.lo)
    np.testing.assert_array_equal(hi, held.hi)
    assert [array.flags.writeable for array in (lo, hi)] == [False, False]
    assert (tensor.lo is lo, tensor.hi is hi) == (True, True)
    gone = weakref.ref(hi)
    del hi
    assert gone() is None
    # Half of it is still there: it is given again, beside an other half that is made anew.
    assert tensor.limits()[0] is lo
    np.testing.assert_array_equal(tensor.hi, held.hi)
    assert tensor.box_radius == held.box_radius
