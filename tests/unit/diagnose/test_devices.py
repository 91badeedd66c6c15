"""Numbers and places of single devices."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


def profile(mapping="sign_magnitude") -> DeviceProfile:
    return DeviceProfile(
        "p",
        "test",
        weight=WeightTable(4, "tensor", mapping),
        device=DeviceTable(bits=2, tolerance=0.1, sigma=0.03),
    )


def layer(name: str, column: np.ndarray, groups: int, rows: int, cols: int) -> CrossbarLayer:
    values = np.arange(1, column.size + 1, dtype=np.float32).reshape(column.shape)
    return CrossbarLayer(
        name, (), column.shape, groups, rows, cols, values, column.astype(np.int32)
    )


def space(mapping: str) -> DeviceSpace:
    matmul = layer("a", np.broadcast_to(np.arange(3), (2, 3)), 1, 2, 3)
    grouped = layer(
        "b", np.broadcast_to(np.arange(4)[:, None], (4, 5)), 2, 5, 2
    )  # two groups of two output channels, five inputs each
    scan = LayerScan((matmul, grouped), ())
    return DeviceSpace(place(scan, profile(mapping)), scan)


def test_a_device_is_found_at_its_word_line_and_bit_line():
    devices = space("differential")
    assert devices.size == 4 * 6 + 4 * 20
    place_of = devices.places(
        np.array([4, 6 * 3 + 5, 24 + 20 * 1 + 17])
    )  # cell 0 of element [1, 1]; cell 3 of [1, 2]; cell 1 of [3, 2] of layer b
    np.testing.assert_array_equal(place_of.layer, [0, 0, 1])
    np.testing.assert_array_equal(place_of.group, [0, 0, 1])
    np.testing.assert_array_equal(place_of.row, [1, 1, 2])
    np.testing.assert_array_equal(place_of.column, [1, 2, 1])
    np.testing.assert_array_equal(place_of.slice_index, [0, 1, 1])
    assert devices.sides(place_of) == ["positive", "negative", "positive"]


@pytest.mark.parametrize("mapping", ["sign_magnitude", "differential", "offset"])
def test_joining_and_splitting_keep_every_device(mapping):
    devices = space(mapping)
    row = np.arange(devices.size)
    parts = devices.split(row)
    np.testing.assert_array_equal(devices.join(parts), row)
    layer_index, weight = devices.weights_of(row)
    np.testing.assert_array_equal(
        np.bincount(layer_index), [6 * len(parts["a"]), 20 * len(parts["b"])]
    )
    np.testing.assert_array_equal(
        weight[layer_index == 1].reshape(-1, 20),
        np.broadcast_to(np.arange(20), (len(parts["b"]), 20)),
    )
