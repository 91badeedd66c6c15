"""The crossbar product in NumPy: the same bits as the kernel, written for reading.

It defines every mode; the kernel is tested against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from cimrobust.engine.reference import philox, quantiles

if TYPE_CHECKING:
    from cimrobust.engine.crossbar_product import (
        CellLayout,
        ConvGeometry,
        InputCoding,
        OutputCoding,
        ReadNoise,
    )

_F32 = np.float32


def fused_multiply_add(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Float32[np.ndarray, "..."]:
    """Return ``a * b + c`` rounded once to float32.

    The product of two float32 is exact in float64. Its sum with c is rounded to odd there, so that
    rounding once more to float32 is right.

    References:
        S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms
        using rounding to odd", IEEE TC 57(4), 2008.
    """
    with np.errstate(all="ignore"):
        product, addend = np.broadcast_arrays(
            np.asarray(a, np.float64) * np.asarray(b, np.float64), np.asarray(c, np.float64)
        )
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)
        is_even = total.view(np.int64) & 1 == 0
        odd = np.nextafter(total, np.copysign(np.inf, error))
        return np.asarray(
            np.where((error != 0) & np.isfinite(total) & is_even, odd, total), dtype=_F32
        )


def levels_of(
    x: Float32[np.ndarray, "*shape"], coding: InputCoding
) -> Float32[np.ndarray, "*shape"]:
    """Return the word-line levels of activations, float32, x's shape; NaN stays NaN."""
    if coding.inverse_scale is None:
        return np.asarray(x, _F32)
    with np.errstate(all="ignore"):
        level = np.rint(np.asarray(x, _F32) * _F32(coding.inverse_scale)) + _F32(coding.zero_point)
    return np.asarray(np.clip(level, _F32(coding.low), _F32(coding.high)))


def digits_of(
    levels: Float32[np.ndarray, "*shape"], coding: InputCoding
) -> list[Float32[np.ndarray, "*shape"]]:
    """Return the digits of levels, the lowest first, with the sign of the level."""
    if coding.num_passes == 1:
        return [levels]
    base = _F32(2.0**coding.bits_per_pass)
    rest, digits = np.abs(levels), []
    for _ in range(coding.num_passes):
        higher = np.floor(rest / base)
        digits.append(np.copysign(rest - higher * base, levels))
        rest = higher
    return digits


def vectors(
    x: Float32[np.ndarray, "vectors rows"],
    layout: CellLayout,
    planes: Sequence[Float32[np.ndarray, "cells"]],
    input_coding: InputCoding,
    output_coding: OutputCoding,
    *,
    noise: ReadNoise | None = None,
    first_vector: int = 0,
) -> Float32[np.ndarray, "vectors columns"]:
    """Return the products of vectors; as `Crossbar.vectors`, bit for bit.

    Args:
        x: float32 [vectors, groups * rows].
        layout: Where the cells are.
        planes: Levels of the cells, float32, one-dimensional each.
        input_coding: Word-line converters.
        output_coding: Bit-line converters and the digital part.
        noise: Read noise; None: none.
        first_vector: Number of the first vector.

    Returns:
        float32 [vectors, columns].
    """
    num_vectors = x.shape[0]
    levels = levels_of(x, input_coding).reshape(num_vectors, layout.groups, layout.rows)
    return _product(
        levels, layout, planes, input_coding, output_coding, noise, first_vector
    ).reshape(num_vectors, layout.num_columns)


def conv(
    x: Float32[np.ndarray, "batch channels depth height width"],
    geometry: ConvGeometry,
    layout: CellLayout,
    planes: Sequence[Float32[np.ndarray, "cells"]],
    input_coding: InputCoding,
    output_coding: OutputCoding,
    *,
    noise: ReadNoise | None = None,
    first_vector: int = 0,
) -> Float32[np.ndarray, "batch columns out_depth out_height out_width"]:
    """Return the convolution of a batch; as `Crossbar.conv`, bit for bit.

    Args:
        x: float32 [batch, groups * channels, depth, height, width].
        geometry: The convolution.
        layout: Where the cells are.
        planes: Levels of the cells, float32, one-dimensional each.
        input_coding: Word-line converters.
        output_coding: Bit-line converters and the digital part.
        noise: Read noise; None: none.
        first_vector: Number of the first output position of the first sample.

    Returns:
        float32 [batch, columns, depth, height, width].
    """
    batch = x.shape[0]
    fields = receptive_fields(x, geometry)  # [batch, positions, channels of all groups, kernel]
    levels = levels_of(fields, input_coding).reshape(-1, layout.groups, layout.rows)
    flat = _product(levels, layout, planes, input_coding, output_coding, noise, first_vector)
    return np.ascontiguousarray(
        flat.reshape(batch, -1, layout.num_columns).transpose(0, 2, 1)
    ).reshape(batch, -1, *geometry.out_size)


def receptive_fields(
    x: Float32[np.ndarray, "batch channels depth height width"], geometry: ConvGeometry
) -> Float32[np.ndarray, "batch positions channels kernel"]:
    """Return what every output position sees, float32 [batch, positions, channels, kernel].

    Zeros beyond the border.
    """
    index = []
    for axis in range(3):
        outputs = np.arange(geometry.out_size[axis]) * geometry.stride[axis] - geometry.pad[axis]
        index.append(outputs[:, None] + np.arange(geometry.kernel[axis]) * geometry.dilation[axis])
    for axis in range(3):
        size = geometry.in_size[axis]
        beyond = (index[axis] < 0) | (index[axis] >= size)
        padded = np.concatenate(
            [x, np.zeros_like(x, shape=(*x.shape[: axis + 2], 1, *x.shape[axis + 3 :]))],
            axis=axis + 2,
        )
        index[axis] = np.where(beyond, size, index[axis])
        x = padded
    d, h, w = index
    fields = x[
        :,
        :,
        d[:, :, None, None, None, None],
        h[None, None, :, :, None, None],
        w[None, None, None, None, :, :],
    ]
    batch, channels = x.shape[:2]
    moved = fields.transpose(0, 2, 4, 6, 1, 3, 5, 7)
    return np.ascontiguousarray(moved).reshape(batch, int(np.prod(geometry.out_size)), channels, -1)


def _product(
    levels: Float32[np.ndarray, "vectors groups rows"],
    layout: CellLayout,
    planes: Sequence[Float32[np.ndarray, "cells"]],
    input_coding: InputCoding,
    output_coding: OutputCoding,
    noise: ReadNoise | None,
    first_vector: int,
) -> Float32[np.ndarray, "vectors groups cols"]:
    """Return the products, float32 [vectors, groups, cols], of levels [vectors, groups, rows]."""
    num_vectors, groups, cols = levels.shape[0], layout.groups, layout.cols
    gain = output_coding.gain.reshape(len(planes), layout.num_row_tiles, groups, cols)
    steps = (
        None
        if output_coding.inverse_step is None
        else output_coding.inverse_step.reshape(gain.shape)
    )
    digits = digits_of(levels, input_coding)
    total = np.zeros((num_vectors, groups, cols), _F32)
    level_sum = np.zeros((num_vectors, groups, 1), _F32)
    for tile in range(layout.num_row_tiles):
        rows = slice(tile * layout.tile_rows, min((tile + 1) * layout.tile_rows, layout.rows))
        for number, digit in enumerate(digits):
            level_sum = fused_multiply_add(
                _ordered_sum(digit[:, :, rows]),
                _F32(2.0 ** (number * input_coding.bits_per_pass)),
                level_sum,
            )
        for plane, cells in enumerate(planes):
            matrix = _matrix(cells, layout)[:, rows]
            for number, digit in enumerate(digits):
                line = _line_sums(digit[:, :, rows], matrix)
                if noise is not None:
                    variance = _line_sums(
                        digit[:, :, rows] * digit[:, :, rows],
                        _matrix(noise.variances[plane], layout)[:, rows],
                    )
                    stage = (tile * len(planes) + plane) * len(digits) + number
                    line = line + np.sqrt(variance) * _normals(
                        noise, stage, first_vector, line.shape
                    )
                weight = gain[plane, tile] * _F32(2.0 ** (number * input_coding.bits_per_pass))
                total = fused_multiply_add(
                    _convert(line, steps, plane, tile, output_coding), weight, total
                )
    if output_coding.input_sum_gain != 0.0:
        total = fused_multiply_add(_F32(-output_coding.input_sum_gain), level_sum, total)
    return fused_multiply_add(
        total,
        output_coding.column_scale.reshape(groups, cols),
        output_coding.bias.reshape(groups, cols),
    )


def _convert(
    line: Float32[np.ndarray, "vectors groups cols"],
    steps: Float32[np.ndarray, "planes tiles groups cols"] | None,
    plane: int,
    tile: int,
    coding: OutputCoding,
) -> Float32[np.ndarray, "vectors groups cols"]:
    if steps is None:
        return line
    with np.errstate(all="ignore"):
        return np.asarray(
            np.clip(np.rint(line * steps[plane, tile]), _F32(coding.low), _F32(coding.high))
        )


def _matrix(
    cells: Float32[np.ndarray, "cells"], layout: CellLayout
) -> Float32[np.ndarray, "groups rows cols"]:
    """Return a plane as float32 [groups, rows, cols]."""
    group, row, col = layout.strides
    index = (
        np.arange(layout.groups)[:, None, None] * group
        + np.arange(layout.rows)[None, :, None] * row
        + np.arange(layout.cols)[None, None] * col
    )
    return np.asarray(cells[index])


def _line_sums(
    digit: Float32[np.ndarray, "vectors groups rows"],
    matrix: Float32[np.ndarray, "groups rows cols"],
) -> Float32[np.ndarray, "vectors groups cols"]:
    """Return the sums on all bit lines, word line by word line, float32 [vectors, groups, cols]."""
    sums = np.zeros((*digit.shape[:2], matrix.shape[2]), _F32)
    for row in range(digit.shape[2]):
        sums = fused_multiply_add(digit[:, :, row, None], matrix[None, :, row, :], sums)
    return sums


def _ordered_sum(
    digit: Float32[np.ndarray, "vectors groups rows"],
) -> Float32[np.ndarray, "vectors groups 1"]:
    """Return the sum of the levels of every vector, word line by word line.

    Float32 [vectors, groups, 1].
    """
    total = np.zeros((*digit.shape[:2], 1), _F32)
    for row in range(digit.shape[2]):
        total = total + digit[:, :, row, None]
    return total


def _normals(
    noise: ReadNoise, stage: int, first_vector: int, shape: tuple[int, ...]
) -> Float32[np.ndarray, "vectors groups cols"]:
    """Return one standard normal draw for every vector and column.

    Float32 [vectors, groups, cols].
    """
    num_vectors, groups, cols = shape
    number = (first_vector + np.arange(num_vectors, dtype=np.uint64)).repeat(groups * cols)
    counter = np.zeros((4, number.size), dtype=np.uint32)
    counter[0], counter[1] = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter[2] = stage
    counter[3] = np.tile(np.arange(groups * cols, dtype=np.uint32), num_vectors)
    return quantiles(philox(counter, noise.key)[0], noise.table).reshape(shape)
