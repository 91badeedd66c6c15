"""Programs chips with the native kernel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust import _native
from cimrobust.device.quantiles import QuantileTable, tabulate
from cimrobust.late_arrays import LateArrays
from cimrobust.mapping.coding import flat_group, level_coding, mirrors_negative
from cimrobust.mapping.tolerance_limits import group_bounds
from cimrobust.seeds import stream_key

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import Placement, TensorPlacement

_NOTHING = np.empty(0, dtype=np.float32)
_WORDS = 2**32

# One entry a layer where drift compensation makes every layer another one.
tabulate_once = lru_cache(maxsize=128)(tabulate)


def program_chip(
    placement: Placement,
    *,
    seed: int,
    trial: int,
    out: Mapping[str, Shaped[np.ndarray, "..."]] | None = None,
    simd: str = "best",
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Draw one chip.

    Program every device once and fold the devices into weights, at the stated time after drift
    compensation.

    The result depends on seed, initializer names and trial alone. Safe from many threads; the
    interpreter's lock is released.

    Args:
        placement: Layers on their devices.
        seed: Seed of the run.
        trial: Which chip, from 0.
        out: Contiguous float32 arrays to write to, by initializer, each in the initializer's shape;
            None: new ones.
        simd: Instruction set, ``best`` or one of `_native.simd_levels()`; the bits are the same on
            all.

    Returns:
        Programmed weights, float32, in each initializer's shape.

    Raises:
        ValueError: An output array cannot be filled in place.
    """
    chip: dict[str, Float32[np.ndarray, "..."]] = {}
    for name, tensor in placement.tensors.items():
        target = (
            np.empty(tensor.shape, dtype=np.float32)
            if out is None
            else _fillable(out[name], tensor.shape, name)
        )
        _program_into(target, tensor, seed=seed, trial=trial, simd=simd)
        chip[name] = target
    return chip


def late_chip(
    placement: Placement, *, seed: int, trial: int
) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    """Return the chip of `program_chip`, of which each tensor is drawn whenever it is read."""

    def drawn(name: str) -> Float32[np.ndarray, "..."]:
        tensor = placement.tensors[name]
        target = np.empty(tensor.shape, dtype=np.float32)
        _program_into(target, tensor, seed=seed, trial=trial)
        return target

    return LateArrays(placement.tensors, drawn)


def _program_into(
    target: Float32[np.ndarray, "..."],
    tensor: TensorPlacement,
    *,
    seed: int,
    trial: int,
    simd: str = "best",
) -> None:
    program = _program_levels if needs_levels(tensor.profile) else _program
    program(tensor, seed=seed, trial=trial, target=target, simd=simd)


def program_devices(
    placement: Placement,
    *,
    seed: int,
    trial: int,
    out: Mapping[str, Shaped[np.ndarray, "..."]] | None = None,
    simd: str = "best",
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Draw one chip as levels of its devices.

    The same devices that `program_chip` folds into weights.

    A device of a profile with drift compensation has the level that it is read as after the outputs
    are multiplied.

    Args:
        placement: Layers on their devices.
        seed: Seed of the run.
        trial: Which chip, from 0.
        out: Contiguous float32 arrays to write to, by initializer; None: new ones.
        simd: As in `program_chip`.

    Returns:
        Levels, float32 [cells_per_weight, num_weights] by initializer; order of devices as in
        `mapping.devices.target_levels`.

    Raises:
        ValueError: An output array cannot be filled in place.
    """
    chip: dict[str, Float32[np.ndarray, "..."]] = {}
    for name, tensor in placement.tensors.items():
        shape = (tensor.cells_per_weight, tensor.num_weights)
        devices = (
            np.empty(shape, dtype=np.float32) if out is None else _fillable(out[name], shape, name)
        )
        _program_levels(tensor, seed=seed, trial=trial, devices=devices, simd=simd)
        chip[name] = devices
    return chip


def needs_levels(profile: DeviceProfile) -> bool:
    """Tell whether the kernel has to know the level of every device.

    Without, a faster path gives the same chips.
    """
    return profile.depends_on_level or profile.has_faults


def programming_key(seed: int, initializer: str) -> int:
    """Return the key of a layer's programming stream."""
    return stream_key(seed, "programming", initializer)


def fault_key(seed: int, initializer: str) -> int:
    """Return the key of a layer's stream of stuck devices."""
    return stream_key(seed, "faults", initializer)


def fault_thresholds(profile: DeviceProfile) -> tuple[int, int]:
    """Return how many of the 2^32 random words make a device stick low, and high."""
    faults = profile.faults
    rates = (0.0, 0.0) if faults is None else (faults.stuck_low, faults.stuck_high)
    low, high = (min(round(rate * _WORDS), _WORDS - 1) for rate in rates)
    return low, high


def stuck_high_level(tensor: TensorPlacement) -> float:
    """Return the level that a device stuck at g_max is read as.

    It does not drift, but its output is compensated with all others.
    """
    return float(np.float32(tensor.drift_factor * (tensor.profile.device.num_levels - 1)))


def _fillable(
    target: Shaped[np.ndarray, "..."], shape: tuple[int, ...], name: str
) -> Float32[np.ndarray, "..."]:
    """Return the array if the kernel can fill it.

    A flat view of any other would be a copy, and the chip would be lost without a word.
    """
    flags = target.flags
    if (
        target.dtype == np.float32
        and target.shape == shape
        and flags.c_contiguous
        and flags.writeable
    ):
        return target
    raise ValueError(
        f"output array must be contiguous, writable float32 of shape {shape}, got {target.dtype} of"
        f" shape {target.shape}, contiguous {flags.c_contiguous}, writable {flags.writeable}"
        f" ('{name}'); make it with numpy.empty"
    )


def _program(
    tensor: TensorPlacement, *, seed: int, trial: int, target: Float32[np.ndarray, "..."], simd: str
) -> None:
    profile = tensor.profile
    low, high = group_bounds(tensor.scale, profile)
    table = _table(tensor)
    _native.program_weights(
        tensor.nominal.reshape(-1),
        flat_group(tensor.scale_group),
        tensor.scale.astype(np.float32),
        low,
        high,
        table.knots,
        table.slopes,
        key=programming_key(seed, tensor.initializer),
        trial=trial,
        num_slices=tensor.num_slices,
        bits_per_device=profile.device.bits,
        is_pair=profile.weight.mapping == "differential",
        mirrors_negative=mirrors_negative(profile),
        clamps=profile.is_bounded,
        out=target.reshape(-1),
        simd=simd,
    )


def _program_levels(
    tensor: TensorPlacement,
    *,
    seed: int,
    trial: int,
    target: Float32[np.ndarray, "..."] = _NOTHING,
    devices: Float32[np.ndarray, "..."] = _NOTHING,
    simd: str,
) -> None:
    profile = tensor.profile
    low_below, high_above = fault_thresholds(profile)
    nominal = tensor.nominal
    table, (lo, hi) = _table(tensor), tensor.limits()
    _native.program_levels(
        nominal.reshape(-1),
        flat_group(tensor.scale_group),
        tensor.scale.astype(np.float32),
        lo.reshape(-1),
        hi.reshape(-1),
        table.knots,
        table.slopes,
        coding=level_coding(profile, has_remainder=tensor.levels_given),
        faults=_native.Faults(
            key=fault_key(seed, tensor.initializer),
            low_below=low_below,
            high_above=high_above,
            high_level=stuck_high_level(tensor),
        ),
        key=programming_key(seed, tensor.initializer),
        trial=trial,
        clamps=profile.is_bounded,
        out=target.reshape(-1),
        devices=devices.reshape(-1),
        simd=simd,
    )


def _table(tensor: TensorPlacement) -> QuantileTable:
    return tabulate_once(tensor.profile, compensation=tensor.drift_factor)
