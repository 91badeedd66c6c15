"""Stores crossbar layers in devices: levels, slices, tiles, and the tolerance box."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cimrobust import _native
from cimrobust.device.curve import number_at
from cimrobust.device.intervals import shift_terms
from cimrobust.errors import InputRefusedError
from cimrobust.mapping.coding import (
    cells_per_weight,
    flat_group,
    num_slices,
    stored_levels,
)
from cimrobust.mapping.made_weights import MadeWeights
from cimrobust.mapping.own_profile import own_profile
from cimrobust.mapping.placement import GivenLimits, Limits, Placement, TensorPlacement
from cimrobust.mapping.tolerance_limits import MadeLimits, group_bounds
from cimrobust.onnx_io.layers import ValuesOfFile

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32, Float64, Int32, Int64
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan


#: Stored weights of a network from which boxes, and weights of floats, are made when they are asked
#: for: 256 MiB of boxes.
MOST_HELD = 2**25


def place(scan: LayerScan, profile: DeviceProfile) -> Placement:
    """Place every crossbar layer of a network on its devices.

    Args:
        scan: The layers; the rules of the profile must have been applied, see `mapping.decided`.
        profile: The devices. Of another tolerance or with fewer effects than the one whose rules
            were applied, as long as the rules are the same.

    Raises:
        InputRefusedError: Weights are not finite, or too large for float32 once their devices
            deviate; names every such layer.
    """
    check_ranges(scan, profile)
    holds = not is_large(scan)
    return Placement(
        profile,
        {
            layer.initializer: place_layer(layer, own_profile(layer, profile), holds=holds)
            for layer in scan.layers
        },
    )


def is_large(scan: LayerScan) -> bool:
    """Tell whether a network is so large that boxes and weights are made when asked for."""
    return sum(layer.num_weights for layer in scan.layers) >= MOST_HELD


def check_ranges(scan: LayerScan, profile: DeviceProfile) -> None:
    """Check that all weights stay finite on their devices; arguments and errors as `place`."""
    assert scan.is_decided or not profile.rules, (
        "the rules of a profile must be applied before layers are placed"
    )
    too_large = [
        problem
        for layer in scan.layers
        if (problem := _range_problem(layer, own_profile(layer, profile))) is not None
    ]
    if too_large:
        raise InputRefusedError(
            "weights must stay finite in float32 with their tolerance box, got"
            f" {', '.join(too_large)} (profile '{profile.name}'); rescale the layers named, or give"
            " a smaller tolerance"
        )


def place_layer(
    layer: CrossbarLayer, profile: DeviceProfile, *, holds: bool = True
) -> TensorPlacement:
    """Quantise one layer, count its devices and derive its tolerance box.

    The scale is ``max|W| / (2^M - 1)`` over the tensor or a column; levels are rounded to the
    nearest, halves to even. Integer weights are levels
    already: they are kept exactly, and the scale, by which device deviations reach the weight,
    follows from their largest magnitude in the same way.
    A scale is never a denormal number, see `level_weights`. Stuck devices are outside the box.

    Args:
        layer: The layer.
        profile: Its devices.
        holds: Keep the box, and quantised weights of a float network; else they are made whenever
            they are asked for and nobody has them.
    """
    group, num_groups = scale_groups(layer, profile)
    scale = level_weights(group_maxima(layer.values, group, num_groups), profile)
    made = MadeWeights(partial(_nominal, layer, group, scale, profile))
    nominal = made()
    factor = layer_drift_factor(nominal, group, scale, profile)
    follows = isinstance(layer.stored, ValuesOfFile) and layer.levels is None
    stored = made if follows and not holds else nominal
    of_box = MadeLimits(stored, group, scale, profile, factor)
    limits: Callable[[], Limits] = GivenLimits(*of_box()) if holds else of_box
    cells = cells_per_weight(profile)
    return TensorPlacement(
        initializer=layer.initializer,
        profile=profile,
        shape=layer.shape,
        stored=stored,
        limits=limits,
        scale=scale,
        scale_group=group,
        num_groups=layer.num_groups,
        num_rows=layer.num_rows,
        num_cols=layer.num_cols,
        num_slices=num_slices(profile),
        cells_per_weight=cells,
        num_reference_cells=reference_cells(layer, profile),
        num_tiles=tiles_of(layer, profile, cells),
        levels_given=layer.levels is not None,
        drift_factor=factor,
    )


def _nominal(
    layer: CrossbarLayer,
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
) -> Float32[np.ndarray, "..."]:
    return quantised(layer.values, group, scale, profile, are_levels=layer.levels is not None)


def level_weights(
    maxima: Float64[np.ndarray, "scales"], profile: DeviceProfile
) -> Float64[np.ndarray, "scales"]:
    """Return the weight of one level by the largest magnitude of each scale group.

    Float64 [num_groups]; 0 for groups of zeros.

    Denormal float32 numbers have too few digits to count levels by, so the weight of a level is at
    least the smallest normal one, 1.2e-38. Only groups whose largest weight is under 1e-33 are
    coded more coarsely by this, in a box that is wider than theirs.
    """
    scale = maxima / (2**profile.weight.bits - 1)
    return np.where(maxima > 0, np.maximum(scale, float(np.finfo(np.float32).tiny)), 0.0)


def drift_factor(profile: DeviceProfile, num_stored: Int64[np.ndarray, "levels"]) -> float:
    """Return what the outputs of a layer are multiplied by to make up for its mean drift.

    The factor is for the stated time; it is 1 without compensation.

    The sum of the target conductances of its devices over the sum of their mean drifted
    conductances, both physical, so with g_min; clipping and stuck devices are left out of account.
    A fixed number of the layer: it does not know the single chip.

    Args:
        profile: The device profile.
        num_stored: Devices of the layer that hold each level [num_levels].

    Raises:
        InputRefusedError: The devices have drifted to nothing on average.
    """
    drift, window = profile.drift, profile.window
    if drift is None or drift.compensation == "none" or not profile.has_drift:
        return 1.0
    position = profile.level_positions()
    target = position + (0.0 if window is None else window.floor)
    if drift.model == "power":
        mean, sd = (
            number_at(number, position, window) * drift.log_time
            for number in (drift.exponent_mean, drift.exponent_sd)
        )
        drifted = target * np.exp(-mean + 0.5 * sd**2)
    else:
        constant, growth = shift_terms(profile, drift, 0.0)
        drifted = target + constant + growth * drift.log_time
    before, after = float(num_stored @ target), float(num_stored @ drifted)
    if before == 0.0:
        return 1.0
    if after <= 0.0:
        raise InputRefusedError(
            "drift compensation must have a positive mean conductance to start from, got"
            f" {after / num_stored.sum():g} of the full range (profile '{profile.name}'); state a"
            ' shorter time, or compensation = "none"'
        )
    return before / after


def group_maxima(
    values: Float[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    num_groups: int,
) -> Float64[np.ndarray, "scales"]:
    """Return the largest magnitude of every scale group, float64 [num_groups]."""
    if group is None:
        return np.array([max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))])
    maxima = np.zeros(num_groups)
    np.maximum.at(maxima, group.ravel(), np.abs(values.ravel()))
    return maxima


def _range_problem(layer: CrossbarLayer, profile: DeviceProfile) -> str | None:
    """Return the largest weight in words if it and its tolerance box do not fit float32.

    None otherwise.
    """
    largest = float(group_maxima(layer.values, None, 1)[0])
    low, high = group_bounds(np.array([1.0 / (2**profile.weight.bits - 1)]), profile)
    reach = largest * (1.0 + max(-float(low[0]), float(high[0])))
    if profile.has_faults:
        reach = max(
            reach,
            largest
            * 2.0 ** (profile.device.bits * num_slices(profile))
            / (2**profile.weight.bits - 1),
        )
    if reach <= float(np.finfo(np.float32).max):
        return None
    return f"{largest:g} in '{layer.initializer}', which may reach {reach:g}"


def layer_drift_factor(
    nominal: Float32[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
) -> float:
    """Return the drift compensation factor of a layer with these quantised weights.

    See `drift_factor`.
    """
    if profile.drift is None or profile.drift.compensation == "none":
        return 1.0
    return drift_factor(profile, devices_at_levels(nominal, group, scale, profile))


def devices_at_levels(
    nominal: Float32[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
) -> Int64[np.ndarray, "levels"]:
    """Count the devices that hold each level, for quantised weights as those of `quantised`."""
    stored = stored_levels(nominal, group, scale, profile, has_remainder=False).astype(np.int64)
    return np.bincount(stored.ravel(), minlength=profile.device.num_levels)


def scale_groups(
    layer: CrossbarLayer, profile: DeviceProfile
) -> tuple[Int32[np.ndarray, "..."] | None, int]:
    """Return the scale group of every element, and their number; None: one scale for the tensor."""
    group, num_groups = scale_view(layer, profile)
    return None if group is None else np.ascontiguousarray(group, dtype=np.int32), num_groups


def scale_view(
    layer: CrossbarLayer, profile: DeviceProfile
) -> tuple[Int32[np.ndarray, "..."] | None, int]:
    """Return what `scale_groups` does, as a view that may hold one number a column."""
    per_column = layer.column if profile.weight.scale == "column" else None
    group = layer.scale_group if layer.levels is not None else per_column
    return group, 1 if group is None else int(group.max(initial=0)) + 1


def quantised(
    values: Float[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
    *,
    are_levels: bool,
) -> Float32[np.ndarray, "*weight"]:
    """Return quantised weights, float32, contiguous, without negative zeros.

    Args:
        values: Weights of a layer, or of a piece of it.
        group: Index of the scale of every weight, contiguous; None: there is one.
        scale: Weight of one level of every scale group of the layer.
        profile: Its devices.
        are_levels: The file gives integers, which are kept.
    """
    if are_levels:
        nominal = np.array(values, dtype=np.float32, order="C")
    else:
        exact = np.ascontiguousarray(values, dtype=np.float32)
        nominal = np.empty_like(exact)
        _native.quantise(
            exact.reshape(-1),
            flat_group(group),
            scale,
            2**profile.weight.bits - 1,
            nominal.reshape(-1),
        )
    # Turns negative zeros into zeros, and nothing else.
    nominal += np.float32(0)
    return nominal


def tiles_of(layer: CrossbarLayer, profile: DeviceProfile, cells_per_weight: int) -> int:
    """Count physical arrays.

    Slices and pairs are neighbouring bit lines, and every group has arrays of its own.
    """
    down = math.ceil(layer.num_rows / profile.tile.rows)
    across = math.ceil(layer.num_cols * cells_per_weight / profile.tile.columns)
    return layer.num_groups * down * across


def reference_cells(layer: CrossbarLayer, profile: DeviceProfile) -> int:
    """Count the devices of the reference columns.

    For the offset mapping one a word line and slice in every matrix, shared by its columns.

    They are counted, but not drawn: the reference is subtracted as its ideal value, so a deviation
    of its own is in no chip and no box, and its bit lines are not in the count of tiles.
    """
    if profile.weight.mapping != "offset":
        return 0
    return layer.num_groups * layer.num_rows * num_slices(profile)
