"""The product of activations with a programmed crossbar.

Word-line coding, tiles, planes, converters, digital sum; computed by the native kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from cimrobust import _native
from cimrobust.device.quantiles import QuantileTable

_NOTHING = np.empty(0, dtype=np.float32)


@dataclass(frozen=True)
class CellLayout:
    """Where the cells of one layer are.

    Attributes:
        groups: Separate matrices.
        rows: Word lines of one matrix.
        cols: Bit lines of one matrix, one a weight column.
        tile_rows: Word lines of one physical array; every such part is converted on its own.
        strides: Elements from one group, row and column to the next in a plane's memory.
    """

    groups: int
    rows: int
    cols: int
    tile_rows: int
    strides: tuple[int, int, int]

    @property
    def num_row_tiles(self) -> int:
        """Arrays that one column runs through."""
        return -(-self.rows // self.tile_rows)

    @property
    def num_columns(self) -> int:
        """Columns of all groups."""
        return self.groups * self.cols


@dataclass(frozen=True)
class InputCoding:
    """How activations become levels on the word lines.

    ``level = clip(rint(x * inverse_scale) + zero_point, low, high)``, sent in `num_passes` digits
    of `bits_per_pass` bits, the lowest first; the digits of a negative level are negative.

    Attributes:
        inverse_scale: Levels a unit of activation; None: no converter, the level is the activation.
        zero_point: Level of a zero activation.
        low: Smallest level.
        high: Largest level.
        num_passes: Digits, one read of the array each.
        bits_per_pass: Bits of a digit.
    """

    inverse_scale: float | None = None
    zero_point: int = 0
    low: int = 0
    high: int = 0
    num_passes: int = 1
    bits_per_pass: int = 0


@dataclass(frozen=True)
class OutputCoding:
    """What becomes of the sum on a bit line.

    ``code = clip(rint(sum * inverse_step), low, high)``, ``total += code * gain * 2^(bits_per_pass
    * pass)``,
    ``y = (total - input_sum_gain * sum of levels) * column_scale + bias``.

    Attributes:
        gain: Worth of a code in weight levels, float32 [planes, row tiles, columns].
        inverse_step: Codes a unit of the sum, same shape; None: no converter, the code is the sum.
        low: Smallest code.
        high: Largest code.
        column_scale: Activation units of a level product, float32 [columns].
        bias: Digital bias, float32 [columns].
        input_sum_gain: Level of a reference column that is subtracted digitally; 0: none.
    """

    gain: Float32[np.ndarray, "planes tiles columns"]
    inverse_step: Float32[np.ndarray, "planes tiles columns"] | None
    low: int
    high: int
    column_scale: Float32[np.ndarray, "columns"]
    bias: Float32[np.ndarray, "columns"]
    input_sum_gain: float = 0.0


@dataclass(frozen=True)
class ReadNoise:
    """Gaussian noise of every read of every cell.

    Attributes:
        variances: Per plane the variance of each cell in squared level units, float32, laid out as
            the plane.
        table: Quantiles of the standard normal distribution.
        key: Stream of the draws.
    """

    variances: Sequence[Float32[np.ndarray, "cells"]]
    table: QuantileTable
    key: int


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution over three axes; missing ones have size 1, index 0 is the outermost."""

    in_size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    pad: tuple[int, int, int]


class Crossbar:
    """One programmed layer, ready to multiply; safe to use from many threads."""

    def __init__(
        self,
        layout: CellLayout,
        planes: Sequence[Float32[np.ndarray, "cells"]],
        input_coding: InputCoding,
        output_coding: OutputCoding,
        *,
        noise: ReadNoise | None = None,
        for_conv: bool,
        simd: str = "best",
    ) -> None:
        """Bring the cells into the kernel's order; the planes may change afterwards.

        Args:
            layout: Where the cells are.
            planes: Levels of the cells, float32, one-dimensional each.
            input_coding: Word-line converters.
            output_coding: Bit-line converters and the digital part.
            noise: Read noise; None: none.
            for_conv: Use `conv`, else `vectors`.
            simd: Instruction set; the bits are the same on all.
        """
        self._array = _native.CrossbarArray(
            list(planes),
            [] if noise is None else list(noise.variances),
            groups=layout.groups,
            rows=layout.rows,
            cols=layout.cols,
            tile_rows=layout.tile_rows,
            strides=layout.strides,
            columns_on="rows" if for_conv else "lanes",
            simd=simd,
        )
        self._layout = layout
        self._coding = _coding_arguments(input_coding, output_coding, noise)

    def conv(
        self,
        x: Float32[np.ndarray, "batch channels depth height width"],
        geometry: ConvGeometry,
        *,
        first_vector: int = 0,
        threads: int = 1,
    ) -> Float32[np.ndarray, "batch columns out_depth out_height out_width"]:
        """Return the convolution of a batch.

        Args:
            x: float32 [batch, groups * channels, depth, height, width], contiguous.
            geometry: The convolution.
            first_vector: Number of the first output position of the first sample, for read noise.
            threads: Threads; the result does not depend on it.

        Returns:
            float32 [batch, columns, depth, height, width].
        """
        y = np.empty((x.shape[0], self._layout.num_columns, *geometry.out_size), dtype=np.float32)
        self._array.conv(
            x.reshape(-1),
            y.reshape(-1),
            batch=x.shape[0],
            channels=x.shape[1] // self._layout.groups,
            in_size=geometry.in_size,
            out_size=geometry.out_size,
            kernel=geometry.kernel,
            stride=geometry.stride,
            dilation=geometry.dilation,
            pad=geometry.pad,
            first_vector=first_vector,
            threads=threads,
            **self._coding,
        )
        return y

    def vectors(
        self, x: Float32[np.ndarray, "vectors rows"], *, first_vector: int = 0, threads: int = 1
    ) -> Float32[np.ndarray, "vectors columns"]:
        """Return the products of vectors.

        Args:
            x: float32 [vectors, groups * rows], contiguous.
            first_vector: Number of the first vector, for read noise.
            threads: Threads; the result does not depend on it.

        Returns:
            float32 [vectors, columns].
        """
        y = np.empty((x.shape[0], self._layout.num_columns), dtype=np.float32)
        self._array.vectors(
            x.reshape(-1),
            y.reshape(-1),
            num_vectors=x.shape[0],
            first_vector=first_vector,
            threads=threads,
            **self._coding,
        )
        return y


def _coding_arguments(
    input_coding: InputCoding, output_coding: OutputCoding, noise: ReadNoise | None
) -> dict[str, Any]:
    steps = output_coding.inverse_step
    return {
        "gain": _flat(output_coding.gain),
        "inverse_step": _NOTHING if steps is None else _flat(steps),
        "column_scale": _flat(output_coding.column_scale),
        "bias": _flat(output_coding.bias),
        "inverse_scale": input_coding.inverse_scale,
        "zero_point": float(input_coding.zero_point),
        "levels": (float(input_coding.low), float(input_coding.high)),
        "num_passes": input_coding.num_passes,
        "bits_per_pass": input_coding.bits_per_pass,
        "codes": (float(output_coding.low), float(output_coding.high)),
        "input_sum_gain": output_coding.input_sum_gain,
        "knots": _NOTHING if noise is None else noise.table.knots,
        "slopes": _NOTHING if noise is None else noise.table.slopes,
        "noise_key": 0 if noise is None else noise.key,
    }


def _flat(values: Float[np.ndarray, "..."]) -> Float32[np.ndarray, "values"]:
    return np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
