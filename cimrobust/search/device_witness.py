"""The evidence device by device.

How every single device has to deviate for the witness to come about, and the check that each may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from cimrobust.errors import SelfCheckError
from cimrobust.files import write_whole
from cimrobust.mapping.device_levels import (
    device_bounds,
    device_deviations,
    device_factors,
    fold_levels,
    target_levels,
)
from cimrobust.mapping.pattern_file import is_whole

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32, Float64, Real, Shaped
    from cimrobust.mapping.placement import Placement, TensorPlacement

DEVICES_FILE = "devices.safetensors"
# Levels, scales, nominal weights and deviations are float32: each rounds by 2^-24 of its size, and
# a few of them meet in a weight.
_ROUNDING = 2.0**-21
# Smallest step of float32: weights that are denormal numbers have no more digits than it leaves
# them.
_SMALLEST = 2.0**-149


@dataclass(frozen=True)
class DeviceCheck:
    """The self-check of a witness's devices.

    Attributes:
        devices: Devices compared with their own interval.
        weights: Weights folded from them and compared with the witness.
        largest_error: Largest difference of a folded weight, as a share of the largest weight of
            its layer.
    """

    devices: int
    weights: int
    largest_error: float


@dataclass(frozen=True)
class DevicePattern:
    """The devices of one layer.

    Level units, [cells_per_weight, num_weights], slices of the positive device first.

    Attributes:
        level: Level that every device is programmed to; of integer weights fractional in slice 0.
        deviation: What it deviates by.
        lo: Smallest deviation its interval allows; [1, 1] where all devices have one interval.
        hi: Largest deviation.
        scale: Weight of one level, float64, broadcasts to the initializer's shape.
    """

    level: Float32[np.ndarray, "cells weights"]
    deviation: Float32[np.ndarray, "cells weights"]
    lo: Float32[np.ndarray, "cells weights"] | Float32[np.ndarray, "1 1"]
    hi: Float32[np.ndarray, "cells weights"] | Float32[np.ndarray, "1 1"]
    scale: Float64[np.ndarray, "..."]


def device_pattern(
    tensor: TensorPlacement, deviation: Float32[np.ndarray, "*weight"]
) -> DevicePattern:
    """Return devices that make the weights of a layer deviate as given.

    Args:
        tensor: Placement of the layer.
        deviation: Inside the tolerance box, in the initializer's shape.
    """
    low, high = device_bounds(tensor)
    return DevicePattern(
        target_levels(tensor),
        device_deviations(tensor, deviation),
        low,
        high,
        _compact_scale(tensor),
    )


def check_pattern(
    tensor: TensorPlacement, deviation: Float32[np.ndarray, "*weight"], pattern: DevicePattern
) -> float:
    """Check that devices may deviate as they do and make the weights they should.

    Return the largest error as a share of the largest weight.

    Raises:
        SelfCheckError: A device leaves its interval or its window, or folded devices are not the
            witness's weights.
    """
    inside = (pattern.lo <= pattern.deviation) & (pattern.deviation <= pattern.hi)
    programmed = pattern.level.astype(np.float64) + pattern.deviation
    if tensor.profile.clips:
        whole = max(1.0, tensor.drift_factor) * (tensor.profile.device.num_levels - 1)
        bottom, top = (limit * whole for limit in tensor.profile.conductance_limits)
        # The remainder that rounding leaves of an integer weight may lie outside; the device may
        # not go further.
        slack = _ROUNDING * whole
        inside &= (programmed >= np.minimum(pattern.level, bottom) - slack) & (
            programmed <= np.maximum(pattern.level, top) + slack
        )
    if not inside.all():
        cell, weight = (int(index) for index in np.argwhere(~inside)[0])
        raise SelfCheckError(
            "every device of the witness must lie in its own interval, got"
            f" {float(pattern.deviation[cell, weight]):g} levels for device {cell} of weight"
            f" {weight} ('{tensor.initializer}'); report this"
        )
    wanted = tensor.nominal.astype(np.float64) + deviation
    error = np.abs(fold_levels(tensor, programmed) - wanted)
    allowed = _ROUNDING * (
        np.abs(tensor.nominal)
        + np.abs(deviation)
        + np.abs(pattern.scale) * _sum_of_levels(tensor, programmed)
    )
    allowed += tensor.cells_per_weight * _SMALLEST
    if not (error <= allowed).all():
        first = tuple(int(index) for index in np.argwhere(~(error <= allowed))[0])
        raise SelfCheckError(
            "devices of the witness must fold to its weights, got a difference of"
            f" {float(error[first]):g} at {list(first)} ('{tensor.initializer}'); report this"
        )
    largest = float(np.abs(tensor.nominal).max(initial=0.0))
    return float(error.max(initial=0.0)) / largest if largest else 0.0


def write_device_witness(
    folder: Path, placement: Placement, deviations: Mapping[str, Float32[np.ndarray, "..."]]
) -> DeviceCheck:
    """Project a pattern to devices, check every one of them, and write the file of small networks.

    It follows from deviations, model and profile, so large networks have none: it would take up to
    20 bytes a weight. What is written is whole.

    Args:
        folder: Existing folder.
        placement: The devices.
        deviations: A pattern in the tolerance box.

    Raises:
        SelfCheckError: See `check_pattern`.
    """
    tensors: dict[str, Shaped[np.ndarray, "..."]] = {}
    devices = weights = 0
    largest = 0.0
    is_written = is_whole(sum(tensor.num_weights for tensor in placement.tensors.values()))
    for name, tensor in placement.tensors.items():
        pattern = device_pattern(tensor, deviations[name])
        largest = max(largest, check_pattern(tensor, deviations[name], pattern))
        devices, weights = devices + pattern.deviation.size, weights + tensor.num_weights
        if is_written:
            tensors |= _written(name, tensor, pattern)
    if is_written:
        write_whole(folder / DEVICES_FILE, save(tensors))
    return DeviceCheck(devices, weights, largest)


def _written(
    name: str, tensor: TensorPlacement, pattern: DevicePattern
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the tensors of a file that one layer has."""
    parts = {
        "level": _compact_levels(pattern.level, tensor),
        "device_deviation": pattern.deviation,
        "device_lo": pattern.lo,
        "device_hi": pattern.hi,
        "scale": pattern.scale,
    }
    return {f"{name}.{part}": np.ascontiguousarray(array) for part, array in parts.items()}


def _sum_of_levels(
    tensor: TensorPlacement, levels: Float[np.ndarray, "cells weights"]
) -> Float64[np.ndarray, "*weight"]:
    """Return the sum of the magnitudes that are added up in every weight.

    In levels of the weight and the initializer's shape.
    """
    return np.asarray((np.abs(device_factors(tensor)) @ np.abs(levels)).reshape(tensor.shape))


def _compact_levels(
    levels: Float32[np.ndarray, "cells weights"], tensor: TensorPlacement
) -> Real[np.ndarray, "cells weights"]:
    """Return levels in the smallest type that holds them: whole ones as unsigned integers."""
    if tensor.levels_given:
        return np.ascontiguousarray(levels, dtype=np.float32)
    return np.ascontiguousarray(
        levels, dtype=np.uint8 if tensor.profile.device.num_levels <= 256 else np.uint16
    )


def _compact_scale(tensor: TensorPlacement) -> Float64[np.ndarray, "..."]:
    """Return the weight of one level, as few elements as broadcast to the initializer's shape."""
    if tensor.scale_group is None:
        return tensor.scale[:1].astype(np.float64)
    group = tensor.scale_group.reshape(tensor.shape)
    for axis in range(group.ndim):
        first = group.take([0], axis=axis)
        group = first if np.array_equal(np.broadcast_to(first, group.shape), group) else group
    return np.asarray(tensor.scale[group], dtype=np.float64)
