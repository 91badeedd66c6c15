"""The levels of single devices: targets, levels of a chip with given weights, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.box_rounding import toward_zero
from cimrobust.device.intervals import level_bounds
from cimrobust.mapping.coding import cells_per_weight, level_offset, mirrors_negative, stored_levels

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32, Float64, Int64, Real
    from cimrobust.mapping.placement import TensorPlacement


def target_levels(tensor: TensorPlacement) -> Float32[np.ndarray, "cells weights"]:
    """Return the level that every device is programmed to, float32 [cells_per_weight, num_weights].

    Slices of the positive device come first, then those of the negative; with sign-magnitude coding
    the slices hold the magnitude. Levels of integer weights may be fractional in slice 0, by up to
    half a level.
    """
    return stored_levels(
        tensor.nominal,
        tensor.scale_group,
        tensor.scale,
        tensor.profile,
        has_remainder=tensor.levels_given,
    )


def whole_levels(tensor: TensorPlacement) -> Int64[np.ndarray, "cells weights"]:
    """Return the programmable level nearest to every device's target.

    It is the index of what depends on the level, intp [cells_per_weight, num_weights].
    """
    return stored_levels(
        tensor.nominal, tensor.scale_group, tensor.scale, tensor.profile, has_remainder=False
    ).astype(np.intp)


def spread_deviation(
    tensor: TensorPlacement, deviation: Float32[np.ndarray, "*weight"]
) -> Float32[np.ndarray, "cells weights"]:
    """Return levels of devices that make weights deviate as given.

    Float32 [cells_per_weight, num_weights].

    Every device of a weight is put at the same fraction of its own interval: of the upper end where
    the weight is to rise, of the lower where it is to fall, the negative device of a pair the other
    way round. `fold_levels` gives the weights back up to float rounding.

    Args:
        tensor: Placement of the layer.
        deviation: Inside the tolerance box, in the initializer's shape.
    """
    return np.asarray(target_levels(tensor) + _spread(tensor, deviation), dtype=np.float32)


def device_deviations(
    tensor: TensorPlacement, deviation: Float32[np.ndarray, "*weight"]
) -> Float32[np.ndarray, "cells weights"]:
    """Return what `spread_deviation` adds to the targets.

    Float32 [cells_per_weight, num_weights]; every device is inside `device_bounds` exactly.
    """
    low, high = device_bounds(tensor)
    return np.clip(_spread(tensor, deviation).astype(np.float32), low, high)


def device_bounds(
    tensor: TensorPlacement,
) -> tuple[Float32[np.ndarray, "cells weights"], Float32[np.ndarray, "cells weights"]]:
    """Return the smallest and largest deviation of every device in level units.

    Float32, rounded towards zero. Shape [cells_per_weight, num_weights]; [1, 1] where all devices
    have the same interval.
    """
    low, high = (
        toward_zero(bound)
        for bound in level_bounds(tensor.profile, compensation=tensor.drift_factor)
    )
    if not tensor.profile.depends_on_level:
        return low[:1, None], high[:1, None]
    index = whole_levels(tensor)
    return low[index], high[index]


def device_factors(tensor: TensorPlacement) -> Float64[np.ndarray, "cells"]:
    """Return what one level of a device adds to its weight in levels of the weight.

    Float64 [cells_per_weight]; the sign is left out where devices hold magnitudes.
    """
    factors = 2.0 ** (
        tensor.profile.device.bits
        * (np.arange(cells_per_weight(tensor.profile)) % tensor.num_slices)
    )
    factors[tensor.num_slices :] *= -1.0
    return factors


def level_weights(tensor: TensorPlacement) -> Float64[np.ndarray, "cells weights"]:
    """Return what one level of a device adds to its weight.

    Float64 [cells_per_weight, num_weights].
    """
    scale = np.broadcast_to(_scale(tensor), (tensor.num_weights,))
    return np.asarray(device_factors(tensor)[:, None] * _upward(scale, tensor))


def fold_levels(
    tensor: TensorPlacement, levels: Real[np.ndarray, "cells weights"]
) -> Float32[np.ndarray, "..."]:
    """Return the weights that device levels make, float32 in the initializer's shape.

    Added up in float64.

    Args:
        tensor: Placement of the layer.
        levels: Of every device, [cells_per_weight, num_weights].
    """
    total = device_factors(tensor) @ levels.astype(np.float64) - level_offset(tensor.profile)
    return _upward(total * _scale(tensor), tensor).reshape(tensor.shape).astype(np.float32)


def _spread(
    tensor: TensorPlacement, deviation: Float32[np.ndarray, "*weight"]
) -> Float64[np.ndarray, "cells weights"]:
    """Return the deviation of every device in level units.

    Float64 [cells_per_weight, num_weights].
    """
    index = whole_levels(tensor)
    low, high = (
        bound[index] for bound in level_bounds(tensor.profile, compensation=tensor.drift_factor)
    )
    wanted, box_low, box_high = (_upward(array, tensor) for array in (deviation, *tensor.limits()))
    if mirrors_negative(tensor.profile):
        flipped = np.signbit(tensor.nominal.ravel())
        box_low, box_high = (
            np.where(flipped, box_high, box_low),
            np.where(flipped, box_low, box_high),
        )
    end = np.where(wanted > 0, box_high, box_low)
    fraction = np.divide(wanted, end, out=np.zeros_like(end), where=end != 0)
    rising = np.broadcast_to(wanted > 0, low.shape).copy()
    if tensor.profile.weight.mapping == "differential":
        rising[tensor.num_slices :] ^= True
    return np.asarray(fraction * np.where(rising, high, low))


def _scale(tensor: TensorPlacement) -> Float64[np.ndarray, "scales"]:
    """Return the weight of one level, float64 [1] or [num_weights]."""
    return (
        tensor.scale[:1] if tensor.scale_group is None else tensor.scale[tensor.scale_group.ravel()]
    )


def _upward(
    values: Float[np.ndarray, "..."], tensor: TensorPlacement
) -> Float64[np.ndarray, "weights"]:
    """Return values with negative weights' signs turned where devices hold magnitudes.

    Flat float64. The function is its own inverse.
    """
    flat = values.reshape(-1).astype(np.float64)
    return (
        np.where(np.signbit(tensor.nominal.ravel()), -flat, flat)
        if mirrors_negative(tensor.profile)
        else flat
    )
