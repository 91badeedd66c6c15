"""Devices in torch: the same levels and the same box as the placement, and the gradients that
training needs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from cimrobust.device.load_profile import load_profile
from cimrobust.mapping.place import place_layer
from cimrobust.onnx_io.layers import CrossbarLayer
from cimrobust.training.weights_on_devices import LayerDevices, grid_of, largest_magnitude


def layer(values: np.ndarray, **more) -> CrossbarLayer:
    column = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)
    return CrossbarLayer(
        "w",
        (),
        values.shape,
        1,
        *values.shape,
        values.astype(np.float32),
        np.ascontiguousarray(column),
        **more,
    )


PROFILES = [
    "rram-write-verify-3pct",
    "rram-differential-3pct",
    "rram-offset-3pct",
    "rram-cmo-hfox-2pct",
    "pcm-nandakumar-2019",
    "rram-milo-2021",
    "sonos-day5",
]


@pytest.mark.parametrize("scale", ["tensor", "column"])
@pytest.mark.parametrize("name", PROFILES)
def test_levels_and_box_are_those_of_the_placement(name, scale):
    profile = load_profile(name)
    profile = dataclasses.replace(profile, weight=dataclasses.replace(profile.weight, scale=scale))
    one = layer(np.random.default_rng(3).standard_normal((12, 7)))
    placed = place_layer(one, profile)
    chip = LayerDevices(one, profile, None).program(torch.from_numpy(np.array(one.values)))
    top = float(np.abs(placed.nominal).max())
    # float32 roundings of the scale and of a product with it
    for mine, theirs in (
        (chip.nominal, placed.nominal),
        (chip.lo, placed.lo),
        (chip.hi, placed.hi),
    ):
        np.testing.assert_allclose(mine.numpy(), theirs, atol=1e-6 * top)


def test_box_follows_the_weights():
    profile = load_profile("rram-write-verify-3pct")
    devices = LayerDevices(layer(np.ones((3, 2))), profile, None)
    weight = torch.tensor([[4.0, -1.0], [0.5, 0.0], [1.0, 2.0]])
    assert devices.program(weight).hi.max() == pytest.approx(0.12, rel=1e-5)
    assert devices.program(weight / 2).hi.max() == pytest.approx(0.06, rel=1e-5)


def test_gradient_passes_straight_through_rounding():
    devices = LayerDevices(layer(np.ones((3, 2))), load_profile("rram-write-verify-3pct"), None)
    weight = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    devices.program(weight).nominal.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones(3, 2))


def test_gradient_of_the_box_reaches_the_largest_weight_alone():
    devices = LayerDevices(layer(np.ones((2, 2))), load_profile("rram-write-verify-3pct"), None)
    weight = torch.tensor([[3.0, -1.0], [0.5, 1.0]], requires_grad=True)
    devices.program(weight).hi.expand_as(weight).sum().backward()
    torch.testing.assert_close(
        weight.grad, torch.tensor([[4 * 0.03, 0.0], [0.0, 0.0]]), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    "values",
    [
        [[3.0, -1.0], [0.5, 3.0]],
        [[-3.0, -1.0], [0.5, 1.0]],
        [[2.0, -2.0], [2.0, 1.0]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
)
def test_gradient_of_the_largest_magnitude_is_that_of_both_ends(values):
    weight = torch.tensor(values, requires_grad=True)
    (mine,) = torch.autograd.grad(7.0 * largest_magnitude(weight), weight)
    ends = 7.0 * torch.maximum(weight.amax(), -weight.amin())
    assert torch.equal(mine, torch.autograd.grad(ends, weight)[0])


@pytest.mark.parametrize("name", ["rram-write-verify-3pct", "pcm-nandakumar-2019"])
def test_points_of_the_box_reach_from_end_to_end(name):
    devices = LayerDevices(layer(np.ones((3, 2))), load_profile(name), None)
    chip = devices.program(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))
    for unit, end in ((1.0, chip.hi), (-1.0, chip.lo), (0.0, 0.5 * (chip.lo + chip.hi))):
        # float32: one rounding of a sum and one of a product
        torch.testing.assert_close(
            chip.deviation(torch.full((3, 2), unit)), end.expand(3, 2), rtol=1e-6, atol=1e-7
        )


def test_integer_weights_round_to_the_integers_of_the_file():
    levels = np.array([[-128, 3], [100, 127]], dtype=np.int32)
    one = layer(levels * np.float32(0.02), levels=levels)
    grid = grid_of(one, levels.astype(np.int8))
    devices = LayerDevices(one, load_profile("rram-write-verify-3pct"), grid)
    chip = devices.program(torch.tensor([[-9.0, 0.071], [2.009, 2.54]]))
    np.testing.assert_allclose(
        chip.nominal.numpy(), np.float32(0.02) * np.array([[-128, 4], [100, 127]]), rtol=1e-6
    )
    assert grid.levels(torch.full((2, 2), 99.0)).tolist() == [[127.0, 127.0], [127.0, 127.0]]


def test_zero_points_move_the_range_of_integers():
    raw = np.array([[0, 255], [10, 128]], dtype=np.uint8)
    levels = raw.astype(np.int32) - 128
    grid = grid_of(layer(levels * np.float32(0.1), levels=levels), raw)
    assert (grid.zero_point == 128).all()
    assert grid.levels(torch.full((2, 2), -99.0)).min() == -128
    assert grid.levels(torch.full((2, 2), 99.0)).max() == 127
