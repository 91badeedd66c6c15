"""Some vectors out of many: evenly spread positions, and what a convolution sees there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

if TYPE_CHECKING:
    from cimrobust.engine.crossbar_product import ConvGeometry


def spread(size: int, count: int) -> Int64[np.ndarray, "indices"]:
    """Return up to `count` indices spread evenly over `size`."""
    return (
        np.unique(np.linspace(0, size - 1, min(size, count)).astype(np.int64))
        if size > 0
        else np.empty(0, np.int64)
    )


def fields_at(
    x: Float32[np.ndarray, "batch channels depth height width"],
    geometry: ConvGeometry,
    positions: Int64[np.ndarray, "positions"],
) -> Float32[np.ndarray, "positions channels kernel"]:
    """Return what some output positions see, float32 [positions, channels, kernel].

    Zeros beyond the border.
    """
    image, place = np.divmod(positions, math.prod(geometry.out_size))
    outputs = np.unravel_index(place, geometry.out_size)
    index, inside = [], np.ones((len(positions), 1, 1, 1), bool)
    for axis in range(3):
        offset = np.arange(geometry.kernel[axis]) * geometry.dilation[axis] - geometry.pad[axis]
        at = outputs[axis][:, None] * geometry.stride[axis] + offset
        shape = [len(positions), 1, 1, 1]
        shape[axis + 1] = -1
        inside = inside & ((at >= 0) & (at < geometry.in_size[axis])).reshape(shape)
        index.append(np.clip(at, 0, geometry.in_size[axis] - 1).reshape(shape))
    fields = x[
        image[:, None, None, None], :, index[0], index[1], index[2]
    ]  # [positions, kernel ..., channels]
    fields = np.where(inside[..., None], fields, np.float32(0))
    return np.ascontiguousarray(np.moveaxis(fields, -1, 1)).reshape(len(positions), x.shape[1], -1)
