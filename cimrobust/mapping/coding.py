"""How the level of a weight is spread over its devices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cimrobust import _native

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Float64, Int32
    from cimrobust.device.profile import DeviceProfile

_NO_GROUPS = np.empty(0, dtype=np.int32)


def num_slices(profile: DeviceProfile) -> int:
    """Return S, the bit slices of a weight.

    ``ceil(M / K)``, one bit more for the offset mapping, whose levels are not negative.
    """
    bits = profile.weight.bits + (1 if profile.weight.mapping == "offset" else 0)
    return math.ceil(bits / profile.device.bits)


def cells_per_weight(profile: DeviceProfile) -> int:
    """Return the devices of a weight: its slices, twice for differential pairs."""
    return num_slices(profile) * (2 if profile.weight.mapping == "differential" else 1)


def mirrors_negative(profile: DeviceProfile) -> bool:
    """Tell whether a device that reads high makes a negative weight more negative.

    Sign-magnitude coding does.
    """
    return profile.weight.mapping == "sign_magnitude"


def max_level(profile: DeviceProfile) -> int:
    """Return the largest magnitude of a weight's level, 2^M - 1."""
    return int(2**profile.weight.bits - 1)


def level_offset(profile: DeviceProfile) -> int:
    """Return what the offset mapping adds to a signed level, 2^M; 0 for the other mappings."""
    return max_level(profile) + 1 if profile.weight.mapping == "offset" else 0


def level_coding(profile: DeviceProfile, *, has_remainder: bool) -> _native.LevelCoding:
    """Return the coding of a profile for the kernel.

    Args:
        profile: The device profile.
        has_remainder: Levels may be fractional, as those of integer weights are; what rounding
            leaves belongs to slice 0.
    """
    return _native.LevelCoding(
        num_slices=num_slices(profile),
        bits_per_device=profile.device.bits,
        is_pair=profile.weight.mapping == "differential",
        mirrors_negative=mirrors_negative(profile),
        max_level=max_level(profile),
        level_offset=level_offset(profile),
        has_remainder=has_remainder,
    )


def stored_levels(
    nominal: Float32[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
    *,
    has_remainder: bool,
) -> Float32[np.ndarray, "cells weights"]:
    """Return the target level of every device, float32 [cells_per_weight, num_weights].

    Slices of the positive device first.

    Args:
        nominal: Quantised weights, contiguous float32.
        group: Index of the scale of every weight; None: there is one.
        scale: Weight of one level.
        profile: The device profile.
        has_remainder: As in `level_coding`.
    """
    levels = np.empty((cells_per_weight(profile), nominal.size), dtype=np.float32)
    coding = level_coding(profile, has_remainder=has_remainder)
    _native.emit_levels(
        nominal.reshape(-1),
        flat_group(group),
        scale.astype(np.float32),
        levels.reshape(-1),
        coding=coding,
    )
    return levels


def flat_group(group: Int32[np.ndarray, "..."] | None) -> Int32[np.ndarray, "weights"]:
    """Return scale groups as the kernel takes them: flat, and empty where there is one scale."""
    return _NO_GROUPS if group is None else group.reshape(-1)
