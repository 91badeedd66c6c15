"""The programming kernel in NumPy: the same bits, written for reading; the kernel is tested against it."""

from __future__ import annotations

import numpy as np

from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.kernel import programming_key
from cimrobust.mapping.place import group_bounds, mirrors_negative
from cimrobust.mapping.placement import Placement, TensorPlacement
from cimrobust.mapping.quantiles import HALF_SIZE, SEGMENT_BITS, QuantileTable, tabulate

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = 23 - SEGMENT_BITS


def program_chip(placement: Placement, *, seed: int, trial: int) -> dict[str, np.ndarray]:
    """Draw one chip; as `engine.kernel.program_chip`, bit for bit."""
    table = tabulate(placement.profile)
    return {
        name: _program(tensor, placement.profile, table, programming_key(seed, name), trial) for name, tensor in placement.tensors.items()
    }


def philox(counter: np.ndarray, key: int) -> np.ndarray:
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


def draw_deviations(num_weights: int, num_devices: int, table: QuantileTable, *, key: int, trial: int) -> np.ndarray:
    """Return the deviation of every device in level units, float32 [num_weights, num_devices]."""
    blocks = []
    for block in range(-(-num_devices // 4)):
        counter = np.zeros((4, num_weights), dtype=np.uint32)
        counter[0] = np.arange(num_weights)
        counter[1] = block
        counter[2], counter[3] = trial & 0xFFFFFFFF, trial >> 32
        blocks.append(quantiles(philox(counter, key), table).T)
    return np.concatenate(blocks, axis=1)[:, :num_devices]


def quantiles(words: np.ndarray, table: QuantileTable) -> np.ndarray:
    """Return the quantiles that random words stand for."""
    upper = words >> np.uint32(31)
    distance = np.where(upper == 1, ~words, words) & np.uint32(0x7FFFFFFF)
    bits = (distance.astype(np.int32).astype(np.float32) + np.float32(0.5)).view(np.uint32)
    first = np.float32(0.5).view(np.uint32) >> np.uint32(_SHIFT)
    segment = (bits >> np.uint32(_SHIFT)) - first + upper * np.uint32(HALF_SIZE)
    place = (bits & np.uint32((1 << _SHIFT) - 1)).astype(np.float32) * np.float32(2.0**-_SHIFT)
    return np.asarray(table.knots[segment] + table.slopes[segment] * place)


def _program(tensor: TensorPlacement, profile: DeviceProfile, table: QuantileTable, key: int, trial: int) -> np.ndarray:
    num_weights, slices = tensor.nominal.size, tensor.num_slices
    drawn = draw_deviations(num_weights, tensor.cells_per_weight, table, key=key, trial=trial)
    total = np.zeros(num_weights, dtype=np.float32)
    for device in range(tensor.cells_per_weight):
        part = np.float32(2.0 ** (profile.device.bits * (device % slices))) * drawn[:, device]
        total = total - part if device >= slices else total + part
    group = np.zeros(num_weights, dtype=np.int32) if tensor.scale_group is None else tensor.scale_group.ravel()
    deviation = tensor.scale.astype(np.float32)[group] * total
    if profile.device.distribution != "gaussian":
        low, high = group_bounds(tensor.scale, profile)
        deviation = np.minimum(np.maximum(deviation, low[group]), high[group])
    nominal = tensor.nominal.ravel()
    if mirrors_negative(profile):
        deviation = np.where(np.signbit(nominal), -deviation, deviation)
    return np.asarray(nominal + deviation, dtype=np.float32).reshape(tensor.shape)
