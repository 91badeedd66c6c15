"""Programs chips with the native kernel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from cimrobust import _native
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.place import group_bounds, mirrors_negative
from cimrobust.mapping.placement import Placement, TensorPlacement
from cimrobust.mapping.quantiles import QuantileTable, tabulate
from cimrobust.seeds import stream_key

_NO_GROUPS = np.empty(0, dtype=np.int32)

tabulate_once = lru_cache(maxsize=16)(tabulate)


def program_chip(
    placement: Placement, *, seed: int, trial: int, out: Mapping[str, np.ndarray] | None = None, simd: str = "best"
) -> dict[str, np.ndarray]:
    """Draw one chip: program every device once and fold the devices into weights.

    The result depends on seed, initializer names and trial alone. Safe from many threads; the interpreter's lock is released.

    Args:
        placement: Layers on their devices.
        seed: Seed of the run.
        trial: Which chip, from 0.
        out: Contiguous float32 arrays to write to, by initializer, each in the initializer's shape; None: new ones.
        simd: Instruction set, ``best`` or one of `_native.simd_levels()`; the bits are the same on all.

    Returns:
        Programmed weights, float32, in each initializer's shape.

    Raises:
        ValueError: An output array cannot be filled in place.
    """
    table = tabulate_once(placement.profile)
    chip: dict[str, np.ndarray] = {}
    for name, tensor in placement.tensors.items():
        target = np.empty(tensor.shape, dtype=np.float32) if out is None else _fillable(out[name], tensor)
        _program(tensor, placement.profile, table, key=programming_key(seed, name), trial=trial, target=target, simd=simd)
        chip[name] = target
    return chip


def programming_key(seed: int, initializer: str) -> int:
    """Return the key of a layer's programming stream."""
    return stream_key(seed, "programming", initializer)


def _fillable(target: np.ndarray, tensor: TensorPlacement) -> np.ndarray:
    """Return the array if the kernel can fill it; a flat view of any other would be a copy, and the chip would be lost without a word."""
    flags = target.flags
    if target.dtype == np.float32 and target.shape == tensor.shape and flags.c_contiguous and flags.writeable:
        return target
    raise ValueError(
        f"output array must be contiguous, writable float32 of shape {tensor.shape}, got {target.dtype} of shape {target.shape}, "
        f"contiguous {flags.c_contiguous}, writable {flags.writeable} ('{tensor.initializer}'); make it with numpy.empty"
    )


def _program(
    tensor: TensorPlacement, profile: DeviceProfile, table: QuantileTable, *, key: int, trial: int, target: np.ndarray, simd: str
) -> None:
    low, high = group_bounds(tensor.scale, profile)
    _native.program_weights(
        tensor.nominal.reshape(-1),
        _NO_GROUPS if tensor.scale_group is None else tensor.scale_group.reshape(-1),
        tensor.scale.astype(np.float32),
        low,
        high,
        table.knots,
        table.slopes,
        key=key,
        trial=trial,
        num_slices=tensor.num_slices,
        bits_per_device=profile.device.bits,
        is_pair=profile.weight.mapping == "differential",
        mirrors_negative=mirrors_negative(profile),
        clamps=profile.device.distribution != "gaussian",
        out=target.reshape(-1),
        simd=simd,
    )
