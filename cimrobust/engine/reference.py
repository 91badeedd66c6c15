"""The programming kernel in NumPy: the same bits, written for reading.

The kernel is tested against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt32

from cimrobust.device.quantiles import HALF_SIZE, SEGMENT_BITS, QuantileTable, tabulate
from cimrobust.engine.kernel import (
    fault_key,
    fault_thresholds,
    needs_levels,
    programming_key,
    stuck_high_level,
)
from cimrobust.mapping.coding import level_offset, max_level, mirrors_negative

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement, TensorPlacement

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = 23 - SEGMENT_BITS


def program_chip(
    placement: Placement, *, seed: int, trial: int
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Draw one chip; as `engine.kernel.program_chip`, bit for bit."""
    return {name: _program_layer(tensor, seed, trial) for name, tensor in placement.tensors.items()}


def program_devices(
    placement: Placement, *, seed: int, trial: int
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Draw one chip as device levels; as `engine.kernel.program_devices`, bit for bit."""
    return {
        name: _program_levels(tensor, seed, trial)[1] for name, tensor in placement.tensors.items()
    }


def philox(counter: UInt32[np.ndarray, "4 draws"], key: int) -> UInt32[np.ndarray, "4 draws"]:
    """Philox4x32-10 of many counters.

    Args:
        counter: uint32 [4, n].
        key: 64 bits.

    Returns:
        Random words, uint32 [4, n].

    References:
        J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = counter.astype(np.uint64)
    key0, key1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(key0),
            product1 & _LOW,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(key1),
            product0 & _LOW,
        )
        key0, key1 = (key0 + _WEYL[0]) & 0xFFFFFFFF, (key1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def draw_words(
    num_weights: int, num_devices: int, *, key: int, trial: int
) -> UInt32[np.ndarray, "weights devices"]:
    """Return the random word of every device, uint32 [num_weights, num_devices]."""
    blocks = []
    for block in range(-(-num_devices // 4)):
        counter = np.zeros((4, num_weights), dtype=np.uint32)
        counter[0] = np.arange(num_weights)
        counter[1] = block
        counter[2], counter[3] = trial & 0xFFFFFFFF, trial >> 32
        blocks.append(philox(counter, key).T)
    return np.concatenate(blocks, axis=1)[:, :num_devices]


def draw_deviations(
    num_weights: int, num_devices: int, table: QuantileTable, *, key: int, trial: int
) -> Float32[np.ndarray, "weights devices"]:
    """Return the deviation of every device in level units, float32 [num_weights, num_devices]."""
    return quantiles(draw_words(num_weights, num_devices, key=key, trial=trial), table)


def quantiles(
    words: UInt32[np.ndarray, "*shape"],
    table: QuantileTable,
    levels: Int64[np.ndarray, "*shape"] | int = 0,
) -> Float32[np.ndarray, "*shape"]:
    """Return the quantiles that random words stand for.

    Each is from the table of its level where there is one a level.
    """
    upper = words >> np.uint32(31)
    distance = np.where(upper == 1, ~words, words) & np.uint32(0x7FFFFFFF)
    bits = (distance.astype(np.int32).astype(np.float32) + np.float32(0.5)).view(np.uint32)
    first = np.float32(0.5).view(np.uint32) >> np.uint32(_SHIFT)
    segment = (bits >> np.uint32(_SHIFT)) - first + upper * np.uint32(HALF_SIZE)
    if table.num_tables > 1:
        segment = segment + np.asarray(levels).astype(np.uint32) * np.uint32(2 * HALF_SIZE)
    place = (bits & np.uint32((1 << _SHIFT) - 1)).astype(np.float32) * np.float32(2.0**-_SHIFT)
    return np.asarray(table.knots[segment] + table.slopes[segment] * place)


def fold_deviations(
    tensor: TensorPlacement,
    drawn: Float32[np.ndarray, "cells weights"],
    *,
    stuck: Bool[np.ndarray, "weights"] | None = None,
) -> Float32[np.ndarray, "..."]:
    """Return the weights that device deviations make, as the kernel adds them up.

    They are float32 in the initializer's shape.

    Args:
        tensor: Placement of the layer.
        drawn: Deviation of every device in level units, float32 [cells_per_weight, num_weights].
        stuck: Weights that have a stuck device, which the tolerance does not bound; None: none.
    """
    nominal, profile = tensor.nominal.ravel(), tensor.profile
    total = np.zeros(nominal.size, dtype=np.float32)
    for device in range(tensor.cells_per_weight):
        part = (
            np.float32(2.0 ** (profile.device.bits * (device % tensor.num_slices))) * drawn[device]
        )
        total = total - part if device >= tensor.num_slices else total + part
    deviation = _scales(tensor) * total
    if mirrors_negative(profile):
        deviation = np.where(np.signbit(nominal), -deviation, deviation)
    if profile.is_bounded:
        lo, hi = tensor.limits()
        bounded = np.minimum(np.maximum(deviation, lo.ravel()), hi.ravel())
        deviation = bounded if stuck is None else np.where(stuck, deviation, bounded)
    return np.asarray(nominal + deviation, dtype=np.float32).reshape(tensor.shape)


def device_factors(tensor: TensorPlacement) -> Float32[np.ndarray, "cells"]:
    """Return the factors of the deviations of a weight's devices in `fold_deviations`.

    Float32 [cells_per_weight].
    """
    factors = np.float32(2.0) ** (
        tensor.profile.device.bits * (np.arange(tensor.cells_per_weight) % tensor.num_slices)
    ).astype(np.float32)
    factors[tensor.num_slices :] *= np.float32(-1)
    return np.asarray(factors, dtype=np.float32)


def unit_weights(tensor: TensorPlacement) -> Float32[np.ndarray, "weights"]:
    """Return by how much a weight moves where its devices add up to one level.

    Float32 [num_weights]; negative where devices hold magnitudes of negative weights.
    """
    scales = _scales(tensor)
    return (
        np.where(np.signbit(tensor.nominal.ravel()), -scales, scales)
        if mirrors_negative(tensor.profile)
        else scales
    )


def _program_layer(tensor: TensorPlacement, seed: int, trial: int) -> Float32[np.ndarray, "..."]:
    """Return the weights of one layer in the initializer's shape."""
    if needs_levels(tensor.profile):
        return _program_levels(tensor, seed, trial)[0]
    key, table = programming_key(seed, tensor.initializer), tabulate(tensor.profile)
    return fold_deviations(
        tensor,
        draw_deviations(tensor.num_weights, tensor.cells_per_weight, table, key=key, trial=trial).T,
    )


def _program_levels(
    tensor: TensorPlacement, seed: int, trial: int
) -> tuple[Float32[np.ndarray, "..."], Float32[np.ndarray, "cells weights"]]:
    """Return the weights in the initializer's shape, and the device levels.

    The latter are [cells_per_weight, num_weights].
    """
    name, nominal, profile = tensor.initializer, tensor.nominal.ravel(), tensor.profile
    digits, targets = target_digits(tensor)
    shape = (nominal.size, tensor.cells_per_weight)
    table = tabulate(profile, compensation=tensor.drift_factor)
    drawn = quantiles(
        draw_words(*shape, key=programming_key(seed, name), trial=trial), table, digits.T
    ).T
    stuck = None
    if profile.has_faults:
        words = draw_words(*shape, key=fault_key(seed, name), trial=trial).T
        low_below, high_above = fault_thresholds(profile)
        low, high = words < np.uint32(low_below), ~words < np.uint32(high_above)
        drawn = np.where(high, np.float32(stuck_high_level(tensor)) - targets, drawn)
        drawn = np.where(low, np.float32(0) - targets, drawn)
        stuck = np.asarray((low | high).any(axis=0))
    return fold_deviations(tensor, drawn, stuck=stuck), targets + drawn


def target_digits(
    tensor: TensorPlacement,
) -> tuple[Int64[np.ndarray, "cells weights"], Float32[np.ndarray, "cells weights"]]:
    """Return the whole level of every device, and its target with the remainder of slice 0.

    Both are [cells_per_weight, num_weights]; the levels int64, the targets float32.
    """
    profile, nominal = tensor.profile, tensor.nominal.ravel()
    bits = profile.device.bits
    negative = np.signbit(nominal)
    ratio = np.minimum(
        np.abs(nominal) / np.maximum(_scales(tensor), np.float32(2.0**-126)),
        np.float32(max_level(profile)),
    )
    level = np.rint(ratio).astype(np.int64)
    remainder = ratio - np.rint(ratio) if tensor.levels_given else np.zeros_like(ratio)
    if profile.weight.mapping == "differential":
        sides = [(np.where(negative, 0, level), np.where(negative, np.float32(0), remainder))]
        sides += [(np.where(negative, level, 0), np.where(negative, remainder, np.float32(0)))]
    elif profile.weight.mapping == "offset":
        sides = [
            (
                level_offset(profile) + np.where(negative, -level, level),
                np.where(negative, -remainder, remainder),
            )
        ]
    else:
        sides = [(level, remainder)]
    digits = np.stack(
        [
            (side >> (bits * slice_index)) & (2**bits - 1)
            for side, _ in sides
            for slice_index in range(tensor.num_slices)
        ]
    )
    targets = digits.astype(np.float32)
    for number, (_, rest) in enumerate(sides):
        targets[number * tensor.num_slices] += rest
    return digits, targets


def _scales(tensor: TensorPlacement) -> Float32[np.ndarray, "weights"]:
    """Return the weight of one level for every weight, float32 [num_weights]."""
    group = (
        np.zeros(tensor.num_weights, dtype=np.int32)
        if tensor.scale_group is None
        else tensor.scale_group.ravel()
    )
    return np.asarray(tensor.scale.astype(np.float32)[group])
