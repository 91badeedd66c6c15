"""Stores crossbar layers in devices: levels, slices, tiles, and the tolerance box."""

from __future__ import annotations

import math

import numpy as np

from cimrobust import _native
from cimrobust.device.profile import DeviceProfile
from cimrobust.errors import InputRefusedError
from cimrobust.graph.layers import CrossbarLayer, LayerScan
from cimrobust.mapping.placement import Placement, TensorPlacement

_NO_GROUPS = np.empty(0, dtype=np.int32)


def place(scan: LayerScan, profile: DeviceProfile) -> Placement:
    """Place every crossbar layer of a network on devices of one profile.

    Args:
        scan: The layers.
        profile: The devices.

    Raises:
        InputRefusedError: Weights are not finite, or too large for float32 once their devices deviate; names every such layer.
    """
    too_large = [problem for layer in scan.layers if (problem := _range_problem(layer, profile)) is not None]
    if too_large:
        raise InputRefusedError(
            f"weights must stay finite in float32 with their tolerance box, got {', '.join(too_large)} (profile '{profile.name}'); "
            "rescale the layers named, or give a smaller tolerance"
        )
    return Placement(profile, {layer.initializer: place_layer(layer, profile) for layer in scan.layers})


def place_layer(layer: CrossbarLayer, profile: DeviceProfile) -> TensorPlacement:
    """Quantise one layer, count its devices and derive its tolerance box.

    The scale is ``max|W| / (2^M - 1)`` over the tensor or a column; levels are rounded to the nearest, halves to even. Integer weights are levels
    already: they are kept exactly, and the scale, by which device deviations reach the weight, follows from their largest magnitude in the same way.
    """
    group, num_groups = _scale_groups(layer, profile)
    scale = group_maxima(layer.values, group, num_groups) / (2**profile.weight.bits - 1)
    nominal = layer.values.astype(np.float32) if layer.levels is not None else _quantise(layer, group, scale, profile)
    nominal = np.ascontiguousarray(np.where(nominal == 0, np.float32(0), nominal))
    low, high = group_bounds(scale, profile)
    lo, hi = np.empty_like(nominal), np.empty_like(nominal)
    mirrors = mirrors_negative(profile)
    _native.emit_box(nominal.ravel(), _flat(group), low, high, mirrors, lo.reshape(-1), hi.reshape(-1))
    cells = num_slices(profile) * (2 if profile.weight.mapping == "differential" else 1)
    for array in (nominal, lo, hi):
        array.setflags(write=False)
    return TensorPlacement(
        initializer=layer.initializer,
        shape=layer.shape,
        nominal=nominal,
        lo=lo,
        hi=hi,
        scale=scale,
        scale_group=group,
        num_groups=layer.num_groups,
        num_rows=layer.num_rows,
        num_cols=layer.num_cols,
        num_slices=num_slices(profile),
        cells_per_weight=cells,
        num_reference_cells=_reference_cells(layer, profile),
        num_tiles=_num_tiles(layer, profile, cells),
        levels_given=layer.levels is not None,
    )


def num_slices(profile: DeviceProfile) -> int:
    """Return S, the bit slices of a weight: ``ceil(M / K)``, one bit more for the offset mapping, whose levels are not negative."""
    bits = profile.weight.bits + (1 if profile.weight.mapping == "offset" else 0)
    return math.ceil(bits / profile.device.bits)


def mirrors_negative(profile: DeviceProfile) -> bool:
    """Tell whether a device that reads high makes a negative weight more negative: sign-magnitude coding does."""
    return profile.weight.mapping == "sign_magnitude"


def group_bounds(scale: np.ndarray, profile: DeviceProfile) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest deviation of a non-negative weight, float32 [num_scales], rounded towards zero.

    With ``[a, b]`` the interval of a device in level units, slices add up to ``scale * sum_j 2^(K j) * [a, b]``; in a pair the negative device
    adds ``-[a, b]``. Where K divides M this is ``max|W|`` times the tolerance as a fraction of the full range, whatever M.
    """
    bits = profile.device.bits
    weights = sum(2 ** (bits * slice_index) for slice_index in range(num_slices(profile)))
    low, high = (bound * (2**bits - 1) * weights for bound in profile.deviation_interval())
    if profile.weight.mapping == "differential":
        low, high = low - high, high - low
    return _toward_zero(scale * low), _toward_zero(scale * high)


def group_maxima(values: np.ndarray, group: np.ndarray | None, num_groups: int) -> np.ndarray:
    """Return the largest magnitude of every scale group, float64 [num_groups]."""
    magnitude = np.abs(values.ravel()).astype(np.float64)
    if group is None:
        return np.array([magnitude.max(initial=0.0)])
    maxima = np.zeros(num_groups)
    np.maximum.at(maxima, group.ravel(), magnitude)
    return maxima


def _range_problem(layer: CrossbarLayer, profile: DeviceProfile) -> str | None:
    """Return the largest weight in words if it and its tolerance box do not fit float32, None otherwise."""
    largest = float(group_maxima(layer.values, None, 1)[0])
    low, high = group_bounds(np.array([1.0 / (2**profile.weight.bits - 1)]), profile)
    reach = largest * (1.0 + max(-float(low[0]), float(high[0])))
    if reach <= float(np.finfo(np.float32).max):
        return None
    return f"{largest:g} in '{layer.initializer}', which may reach {reach:g}"


def _scale_groups(layer: CrossbarLayer, profile: DeviceProfile) -> tuple[np.ndarray | None, int]:
    """Return the scale group of every element, and their number; None: one scale for the tensor."""
    per_column = layer.column if profile.weight.scale == "column" else None
    group = layer.scale_group if layer.levels is not None else per_column
    if group is None:
        return None, 1
    return np.ascontiguousarray(group, dtype=np.int32), int(group.max(initial=0)) + 1


def _quantise(layer: CrossbarLayer, group: np.ndarray | None, scale: np.ndarray, profile: DeviceProfile) -> np.ndarray:
    values = np.ascontiguousarray(layer.values, dtype=np.float32)
    nominal = np.empty_like(values)
    _native.quantise(values.reshape(-1), _flat(group), scale, 2**profile.weight.bits - 1, nominal.reshape(-1))
    return nominal


def _flat(group: np.ndarray | None) -> np.ndarray:
    return _NO_GROUPS if group is None else group.reshape(-1)


def _num_tiles(layer: CrossbarLayer, profile: DeviceProfile, cells_per_weight: int) -> int:
    """Count physical arrays: slices and pairs are neighbouring bit lines, and every group has arrays of its own."""
    down = math.ceil(layer.num_rows / profile.tile.rows)
    across = math.ceil(layer.num_cols * cells_per_weight / profile.tile.columns)
    return layer.num_groups * down * across


def _reference_cells(layer: CrossbarLayer, profile: DeviceProfile) -> int:
    """Count the devices of the reference columns: for the offset mapping one a word line and slice in every matrix, shared by its columns.

    They are counted, but not drawn: the reference is subtracted as its ideal value, so a deviation of its own is in no chip and no box, and its
    bit lines are not in the count of tiles.
    """
    if profile.weight.mapping != "offset":
        return 0
    return layer.num_groups * layer.num_rows * num_slices(profile)


def _toward_zero(values: np.ndarray) -> np.ndarray:
    rounded = values.astype(np.float32)
    outside = np.abs(rounded.astype(np.float64)) > np.abs(values)
    return np.where(outside, np.nextafter(rounded, np.float32(0)), rounded).astype(np.float32)
