"""What is told of a layer without its arrays: the same as with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cimrobust.device.load_profile import list_profiles, load_profile
from cimrobust.mapping.outline import LayerOutline, outline
from cimrobust.mapping.place import place_layer
from cimrobust.onnx_io.layers import CrossbarLayer


def layer(shape: tuple[int, ...], *, are_levels: bool = False) -> CrossbarLayer:
    """Return a layer whose last axis has its columns, and its scales for levels."""
    stream = np.random.default_rng(len(shape))
    values = stream.standard_normal(shape).astype(np.float32)
    levels = stream.integers(-128, 128, shape, dtype=np.int32) if are_levels else None
    column = np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)
    if levels is not None:
        values = (levels * np.linspace(0.1, 1, shape[-1])).astype(np.float32)
    return CrossbarLayer(
        "w", (), shape, 1, values.size // shape[-1], shape[-1], values, column,
        levels=levels, scale_group=column if are_levels else None,
    )  # fmt: skip


@pytest.mark.parametrize("piece", [1, 7, 10**6])
@pytest.mark.parametrize("scale", ["tensor", "column"])
@pytest.mark.parametrize("name", list_profiles())
def test_an_outline_is_that_of_the_placed_layer(name, scale, piece):
    profile = load_profile(name)
    profile = dataclasses.replace(profile, weight=dataclasses.replace(profile.weight, scale=scale))
    for shape in [(6, 5), (1, 1, 6, 5), (3, 2, 2, 5), (1, 1), (5,)]:
        for are_levels in (False, True):
            one = layer(shape, are_levels=are_levels)
            placed, outlined = place_layer(one, profile), outline(one, profile, piece=piece)
            for item in dataclasses.fields(LayerOutline):
                expected, found = getattr(placed, item.name), getattr(outlined, item.name)
                np.testing.assert_array_equal(found, expected, err_msg=f"{item.name} of {shape}")
