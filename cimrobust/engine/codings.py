"""From ranges to converters: what a level and a code are worth in every array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Int64

from cimrobust.engine.crossbar_product import CellLayout, InputCoding, OutputCoding
from cimrobust.mapping.planes import PlaneSet, plane_set

if TYPE_CHECKING:
    from cimrobust.device.converter_tables import AdcTable
    from cimrobust.device.profile import DeviceProfile


@dataclass(frozen=True)
class ArrayRanges:
    """What calibration saw at one array.

    Attributes:
        low: Smallest activation inside the range.
        high: Largest activation inside the range.
        sums: Largest magnitude inside the range of sums on bit lines, float64 [planes, row tiles,
            column tiles]; None where not calibrated.
    """

    low: float
    high: float
    sums: Float64[np.ndarray, "planes tiles column_tiles"] | None = None


def input_coding(profile: DeviceProfile, ranges: ArrayRanges | None) -> InputCoding:
    """Return how activations are sent to the word lines; without ranges, ideally."""
    dac = profile.dac
    if dac is None or ranges is None:
        return InputCoding()
    low, high = min(ranges.low, 0.0), max(ranges.high, 0.0)
    signed = dac.encoding == "signed" or (dac.encoding == "auto" and low < 0)
    if signed:
        top, bits = 2 ** (dac.bits - 1) - 1, dac.bits - 1
        span, zero_point, lowest = max(-low, high), 0, -top
    else:
        top, bits = 2**dac.bits - 1, dac.bits
        span, lowest = high - low, 0
        zero_point = round(-low / span * top) if span > 0 else 0
    inverse_scale = float(np.float32(top / span)) if span > 0 else 1.0
    if not math.isfinite(inverse_scale) or inverse_scale == 0.0:
        inverse_scale = 1.0
    passes, per_pass = dac.num_passes(signed=signed), min(dac.bits_per_pass or bits, bits)
    return InputCoding(
        inverse_scale, zero_point, lowest, top, passes, per_pass if passes > 1 else 0
    )


def largest_digit(coding: InputCoding, ranges: ArrayRanges) -> float:
    """Return the largest magnitude that one read drives a word line with."""
    if coding.inverse_scale is None:
        return max(abs(ranges.low), abs(ranges.high))
    return float(coding.high if coding.num_passes == 1 else 2**coding.bits_per_pass - 1)


def code_range(adc: AdcTable, *, signed: bool) -> tuple[int, int]:
    """Return the smallest and the largest code."""
    if not signed:
        return 0, 2**adc.bits - 1
    top = 2 ** (adc.bits - 1) - 1
    return (-top if adc.symmetric else -top - 1), top


def sums_are_signed(planes: PlaneSet, coding: InputCoding) -> bool:
    """Tell whether sums on the bit lines can be negative by design."""
    return (
        coding.inverse_scale is None
        or coding.low < 0
        or any(plane.low < 0 for plane in planes.planes)
    )


def output_coding(
    profile: DeviceProfile,
    layout: CellLayout,
    coding: InputCoding,
    ranges: ArrayRanges | None,
    column_scale: Float[np.ndarray, "columns"],
    *,
    cells_per_weight: int,
) -> OutputCoding:
    """Return what becomes of the sums on the bit lines; without ranges, with ideal converters.

    The bias is zero.

    Args:
        profile: The profile.
        layout: The array.
        coding: Its word lines.
        ranges: What calibration saw.
        column_scale: Weight of one level in every column, float64 [columns].
        cells_per_weight: Bit lines of a weight column.
    """
    planes = plane_set(profile)
    shape = (len(planes.planes), layout.num_row_tiles, layout.num_columns)
    level = 1.0 if coding.inverse_scale is None else 1.0 / coding.inverse_scale
    scale = (column_scale * level).astype(np.float32)
    zero = np.zeros(layout.num_columns, np.float32)
    worth = np.array([planes.weight(index) for index in range(len(planes.planes))])[:, None, None]
    if profile.adc is None or ranges is None:
        gain = np.broadcast_to(worth, shape).astype(np.float32)
        return OutputCoding(gain, None, 0, 0, scale, zero, float(planes.input_sum_gain))
    low, high = code_range(profile.adc, signed=sums_are_signed(planes, coding))
    step = _steps(profile, layout, coding, ranges, high, cells_per_weight)
    inverse = (1.0 / step).astype(np.float32)
    return OutputCoding(
        (step * worth).astype(np.float32),
        inverse,
        low,
        high,
        scale,
        zero,
        float(planes.input_sum_gain),
    )


def _steps(
    profile: DeviceProfile,
    layout: CellLayout,
    coding: InputCoding,
    ranges: ArrayRanges,
    high: int,
    cells_per_weight: int,
) -> Float[np.ndarray, "planes tiles columns"]:
    """Return the worth of a code in level products, float64 [planes, row tiles, columns]."""
    adc, planes = profile.adc, plane_set(profile)
    assert adc is not None
    shape = (len(planes.planes), layout.num_row_tiles, layout.num_columns)
    if adc.range == "calibrated":
        assert ranges.sums is not None
        column_tile = tiles_of_columns(profile, layout, cells_per_weight)
        largest = ranges.sums[:, :, column_tile]
    else:
        lengths = [
            min(layout.tile_rows, layout.rows - tile * layout.tile_rows)
            for tile in range(layout.num_row_tiles)
        ]
        peak = np.array([max(-plane.low, plane.high) for plane in planes.planes], dtype=np.float64)
        largest = np.broadcast_to(
            (peak[:, None] * np.array(lengths) * largest_digit(coding, ranges))[:, :, None], shape
        )
    step = np.where(largest > 0, largest / high, 1.0)
    if adc.range == "granular":
        step = np.exp2(np.ceil(np.log2(np.maximum(step, 1.0))))
    return np.asarray(step)


def tiles_of_columns(
    profile: DeviceProfile, layout: CellLayout, cells_per_weight: int
) -> Int64[np.ndarray, "columns"]:
    """Return the column tile of every column, int64 [columns]; every group has tiles of its own."""
    per_tile = max(profile.tile.columns // cells_per_weight, 1)
    per_group = math.ceil(layout.cols / per_tile)
    column = np.arange(layout.num_columns)
    return column // layout.cols * per_group + column % layout.cols // per_tile
