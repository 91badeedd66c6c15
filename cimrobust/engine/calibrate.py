"""Ranges of converters from calibration data.

What activations and sums the quantised network makes on samples that it is not judged on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from cimrobust.engine.codings import ArrayRanges, input_coding, tiles_of_columns
from cimrobust.engine.crossbar_reference import digits_of, levels_of
from cimrobust.engine.fields import fields_at, spread
from cimrobust.mapping.device_levels import target_levels
from cimrobust.mapping.planes import cells_of

if TYPE_CHECKING:
    from cimrobust.engine.array_plan import PlannedArray
    from cimrobust.engine.crossbar_product import ConvGeometry, Crossbar, InputCoding
    from cimrobust.engine.kernel_engine import KernelEngine
    from cimrobust.mapping.placement import Placement

# Vectors kept of one call and of one array; sums computed for one array at most.
_PER_CALL = 64
_PER_ARRAY = 1024
_MOST_SUMS = 4_000_000
_MOST_PRODUCTS = 2_000_000_000
# Magnitudes kept of one call for percentiles.
_MAGNITUDES = 65_536
# Without input converters, activations are taken on a grid of so many steps, so that sums are exact
# and the same on every machine.
_GRID = 2**15


def calibrate(
    engine: KernelEngine,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
) -> dict[str, ArrayRanges]:
    """Return the ranges of every product, by key.

    Args:
        engine: The network with ideal converters; its nominal weights are used.
        inputs: Calibration samples per graph input.
        constants: Constant inputs.
    """
    placement = engine.placement
    cells = {
        name: cells_of(tensor, target_levels(tensor)) for name, tensor in placement.tensors.items()
    }
    recorders = {
        key: _Recorder(array, array.program(cells, 0)) for key, array in engine.arrays.items()
    }
    with engine.open_with(recorders) as network:
        network.run(inputs, constants)
    return {
        key: recorder.ranges(placement, recorder.array.planes(cells))
        for key, recorder in recorders.items()
    }


class _Recorder:
    """A product that remembers what it was given."""

    def __init__(self, array: PlannedArray, product: Crossbar) -> None:
        self.array = array
        self._product = product
        self._low, self._high = 0.0, 0.0
        self._magnitudes: list[Float32[np.ndarray, "values"]] = []
        self._vectors: list[Float32[np.ndarray, "vectors rows"]] = []

    def conv(
        self,
        x: Float32[np.ndarray, "batch channels depth height width"],
        geometry: ConvGeometry,
        *,
        first_vector: int = 0,
        threads: int = 1,
    ) -> Float32[np.ndarray, "batch columns out_depth out_height out_width"]:
        """Return a convolution."""
        self._note(x)
        positions = spread(x.shape[0] * math.prod(geometry.out_size), _PER_CALL)
        self._vectors.append(fields_at(x, geometry, positions).reshape(len(positions), -1))
        return self._product.conv(x, geometry, first_vector=first_vector, threads=threads)

    def vectors(
        self, x: Float32[np.ndarray, "vectors rows"], *, first_vector: int = 0, threads: int = 1
    ) -> Float32[np.ndarray, "vectors columns"]:
        """Return products of vectors."""
        self._note(x)
        self._vectors.append(x[spread(len(x), _PER_CALL)])
        return self._product.vectors(x, first_vector=first_vector, threads=threads)

    def _note(self, x: Float32[np.ndarray, "..."]) -> None:
        finite = x[np.isfinite(x)]
        self._low = min(self._low, float(finite.min(initial=0.0)))
        self._high = max(self._high, float(finite.max(initial=0.0)))
        self._magnitudes.append(np.abs(finite[spread(finite.size, _MAGNITUDES)]))

    def ranges(
        self, placement: Placement, planes: list[Float32[np.ndarray, "cells"]]
    ) -> ArrayRanges:
        """Return the ranges of the product from all that it was given."""
        profile = placement.array_profile(self.array.use.operand.leaves)
        low, high = self._low, self._high
        if profile.dac is not None and profile.dac.percentile < 100 and self._magnitudes:
            inside = float(
                np.percentile(
                    np.concatenate(self._magnitudes), profile.dac.percentile, method="higher"
                )
            )
            low, high = max(low, -inside), min(high, inside)
        ranges = ArrayRanges(low, high)
        if profile.adc is None or profile.adc.range != "calibrated":
            return ranges
        return replace(ranges, sums=self._sums(placement, planes, ranges))

    def _sums(
        self, placement: Placement, planes: list[Float32[np.ndarray, "cells"]], ranges: ArrayRanges
    ) -> Float64[np.ndarray, "planes tiles column_tiles"]:
        """Return the largest magnitudes of sums inside the range.

        Float64 [planes, row tiles, column tiles].
        """
        profile, layout = (
            placement.array_profile(self.array.use.operand.leaves),
            self.array.use.layout,
        )
        adc = profile.adc
        assert adc is not None
        cells_per_weight = placement.tensors[self.array.use.operand.leaves[0]].cells_per_weight
        column_tile = tiles_of_columns(profile, layout, cells_per_weight)
        largest = np.zeros((len(planes), layout.num_row_tiles, int(column_tile.max()) + 1))
        if not self._vectors:
            return largest
        digits = self._digits(input_coding(profile, ranges), ranges, len(planes))
        pool: list[Float64[np.ndarray, "sums"]] = []
        for index, plane in enumerate(planes):
            for tile in range(layout.num_row_tiles):
                sums = np.abs(self._tile_sums(digits, plane, tile))
                if adc.per == "layer":
                    pool.append(sums.ravel())
                    continue
                for column in range(largest.shape[2]):
                    chosen = sums[:, column_tile == column]
                    largest[index, tile, column] = np.percentile(
                        chosen, adc.percentile, method="higher"
                    )
        if adc.per == "layer":
            largest[...] = np.percentile(np.concatenate(pool), adc.percentile, method="higher")
        return largest

    def _digits(
        self, coding: InputCoding, ranges: ArrayRanges, num_planes: int
    ) -> Float64[np.ndarray, "passes vectors groups rows"]:
        """Return the digits of the vectors kept, float64 [passes, vectors, groups, rows]."""
        layout = self.array.use.layout
        vectors = np.concatenate(self._vectors)
        sums_per_vector = max(
            coding.num_passes * layout.num_columns * layout.num_row_tiles * num_planes, 1
        )
        products = max(sums_per_vector // layout.num_row_tiles * layout.rows, 1)
        count = max(min(_PER_ARRAY, _MOST_SUMS // sums_per_vector, _MOST_PRODUCTS // products), 8)
        chosen = np.nan_to_num(vectors[spread(len(vectors), count)])
        if coding.inverse_scale is None:
            span = max(abs(ranges.low), abs(ranges.high)) or 1.0
            digits = [np.rint(chosen.astype(np.float64) / span * _GRID) * (span / _GRID)]
        else:
            digits = [
                digit.astype(np.float64) for digit in digits_of(levels_of(chosen, coding), coding)
            ]
        return np.stack(digits).reshape(len(digits), len(chosen), layout.groups, layout.rows)

    def _tile_sums(
        self,
        digits: Float64[np.ndarray, "passes vectors groups rows"],
        plane: Float32[np.ndarray, "cells"],
        tile: int,
    ) -> Float64[np.ndarray, "passes*vectors columns"]:
        """Return the sums of one plane and row tile, float64 [passes * vectors, columns]."""
        layout = self.array.use.layout
        rows = slice(tile * layout.tile_rows, min((tile + 1) * layout.tile_rows, layout.rows))
        strides = [stride * plane.itemsize for stride in layout.strides]
        matrix = np.lib.stride_tricks.as_strided(
            plane, (layout.groups, layout.rows, layout.cols), strides
        )[:, rows].astype(np.float64)
        driven = digits[..., rows].reshape(-1, layout.groups, matrix.shape[1]).transpose(1, 0, 2)
        return np.asarray((driven @ matrix).transpose(1, 0, 2).reshape(-1, layout.num_columns))
