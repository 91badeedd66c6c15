"""The levels of single devices: targets, levels of a chip with given weights, and back."""

from __future__ import annotations

import numpy as np

from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.coding import cells_per_weight, level_offset, mirrors_negative, stored_levels
from cimrobust.mapping.placement import TensorPlacement


def target_levels(tensor: TensorPlacement, profile: DeviceProfile) -> np.ndarray:
    """Return the level that every device is programmed to, float32 [cells_per_weight, num_weights].

    Slices of the positive device come first, then those of the negative; with sign-magnitude coding the slices hold the magnitude. Levels of integer
    weights may be fractional in slice 0, by up to half a level.
    """
    return stored_levels(tensor.nominal, tensor.scale_group, tensor.scale, profile, has_remainder=tensor.levels_given)


def whole_levels(tensor: TensorPlacement, profile: DeviceProfile) -> np.ndarray:
    """Return the programmable level nearest to every device's target, intp [cells_per_weight, num_weights]: the index of what depends on the level."""
    return stored_levels(tensor.nominal, tensor.scale_group, tensor.scale, profile, has_remainder=False).astype(np.intp)


def spread_deviation(tensor: TensorPlacement, profile: DeviceProfile, deviation: np.ndarray) -> np.ndarray:
    """Return levels of devices that make weights deviate as given, float32 [cells_per_weight, num_weights].

    Every device of a weight is put at the same fraction of its own interval: of the upper end where the weight is to rise, of the lower where it is to
    fall, the negative device of a pair the other way round. `fold_levels` gives the weights back up to float rounding.

    Args:
        tensor: Placement of the layer.
        profile: The device profile.
        deviation: Inside the tolerance box, in the initializer's shape.
    """
    index = whole_levels(tensor, profile)
    low, high = (bound[index] for bound in profile.level_bounds(compensation=tensor.drift_factor))
    wanted, box_low, box_high = (_upward(array, tensor, profile) for array in (deviation, tensor.lo, tensor.hi))
    if mirrors_negative(profile):
        flipped = np.signbit(tensor.nominal.ravel())
        box_low, box_high = np.where(flipped, box_high, box_low), np.where(flipped, box_low, box_high)
    end = np.where(wanted > 0, box_high, box_low)
    fraction = np.divide(wanted, end, out=np.zeros_like(end), where=end != 0)
    rising = np.broadcast_to(wanted > 0, low.shape).copy()
    if profile.weight.mapping == "differential":
        rising[tensor.num_slices :] ^= True
    return np.asarray(target_levels(tensor, profile) + fraction * np.where(rising, high, low), dtype=np.float32)


def fold_levels(tensor: TensorPlacement, profile: DeviceProfile, levels: np.ndarray) -> np.ndarray:
    """Return the weights that device levels make, float32 in the initializer's shape; added up in float64.

    Args:
        tensor: Placement of the layer.
        profile: The device profile.
        levels: Of every device, [cells_per_weight, num_weights].
    """
    slices = tensor.num_slices
    factors = 2.0 ** (profile.device.bits * (np.arange(cells_per_weight(profile)) % slices))
    if profile.weight.mapping == "differential":
        factors[slices:] *= -1.0
    total = factors @ levels.astype(np.float64) - level_offset(profile)
    scale = tensor.scale[0] if tensor.scale_group is None else tensor.scale[tensor.scale_group.ravel()]
    return _upward(total * scale, tensor, profile).reshape(tensor.shape).astype(np.float32)


def _upward(values: np.ndarray, tensor: TensorPlacement, profile: DeviceProfile) -> np.ndarray:
    """Return values with the sign of negative weights turned where devices hold magnitudes, flat float64; its own inverse."""
    flat = values.reshape(-1).astype(np.float64)
    return np.where(np.signbit(tensor.nominal.ravel()), -flat, flat) if mirrors_negative(profile) else flat
