"""Check the devices of a witness.

They must fit the device profile of the certificate and the weights of the witness file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.intervals import level_bounds
from cimrobust.device.load_profile import profile_of
from cimrobust.mapping.place import drift_factor
from cimrobust.review.stated_layer import layer_profile, rule_problem
from cimrobust.tensor_file import read_tensors

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Shaped
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.device.profile import DeviceProfile

DEVICES = "witness/devices.safetensors"
_PARTS = ("level", "device_deviation", "device_lo", "device_hi", "scale")
# Float32 levels, scales and sums.
_ROUNDING = 1e-6
# Smallest step of float32, for weights that are denormal numbers.
_SMALLEST = 2.0**-149


def devices_hold(
    directory: Path,
    certificate: CertificateModel,
    stored: Mapping[str, Shaped[np.ndarray, "..."]],
    nominal: Mapping[str, Shaped[np.ndarray, "..."]],
) -> tuple[bool, str]:
    """Return whether a witness's devices lie in their intervals and fold to the stored weights.

    The interval of a device is the one that the profile gives its level.

    Nothing is taken from the code that made the file: intervals come from the certificate's
    profile, sums are written out here.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate.
        stored: Weights of the witness file by name.
        nominal: Quantised weights by name; their signs are no part of sign-magnitude devices.

    Returns:
        Whether it holds, and what was compared or what is wrong.

    Raises:
        InputRefusedError: The file is no safetensors file.
    """
    tensors = read_tensors(directory / DEVICES, what="devices of the witness")
    stated = profile_of(certificate.device.profile, shown="certificate.json")
    count = 0
    for layer in certificate.mapping.layers:
        name = layer.initializer
        if wrong_rule := rule_problem(layer, stated):
            return False, wrong_rule
        profile = layer_profile(layer, stated)
        missing = [f"{name}.{part}" for part in _PARTS if f"{name}.{part}" not in tensors]
        if missing or name not in stored:
            return False, f"missing {missing or name}"
        level, deviation, low, high, scale = (tensors[f"{name}.{part}"] for part in _PARTS)
        shape = (layer.cells_per_weight, stored[name].size)
        if (
            level.shape != shape
            or deviation.shape != shape
            or low.shape not in (shape, (1, 1))
            or high.shape not in (shape, (1, 1))
        ):
            return (
                False,
                f"devices of '{name}' must be {shape[0]} x {shape[1]}, got {list(deviation.shape)}",
            )
        if problem := _outside(level, deviation, low, high, profile):
            return False, f"{problem} of '{name}'"
        if not _folds(
            level,
            deviation,
            scale * _signs(nominal[name], profile),
            stored[name],
            layer.slices,
            profile,
        ):
            return False, f"devices of '{name}' do not fold to the stored weights"
        count += deviation.size
    return (
        True,
        (
            f"{count} devices: each in the interval of its level, and folded they are the stored"
            " weights"
        ),
    )


def _outside(
    level: Shaped[np.ndarray, "cells weights"],
    deviation: Shaped[np.ndarray, "cells weights"],
    low: Shaped[np.ndarray, "..."],
    high: Shaped[np.ndarray, "..."],
    profile: DeviceProfile,
) -> str:
    """Return what leaves the intervals of the profile, or nothing."""
    index = np.rint(level).astype(np.int64)
    if index.min(initial=0) < 0 or index.max(initial=0) >= profile.device.num_levels:
        return f"a level outside 0 to {profile.device.num_levels - 1}"
    if not ((low <= deviation) & (deviation <= high)).all():
        return "a device outside its interval"
    factor = drift_factor(profile, np.bincount(index.ravel(), minlength=profile.device.num_levels))
    least, most = (bound[index] for bound in level_bounds(profile, compensation=factor))
    slack = _ROUNDING * (profile.device.num_levels - 1)
    if (low < least - slack).any() or (high > most + slack).any():
        return "an interval wider than the profile's"
    return ""


def _signs(
    nominal: Shaped[np.ndarray, "*weight"], profile: DeviceProfile
) -> Float64[np.ndarray, "*weight"] | float:
    return (
        np.where(np.signbit(nominal), -1.0, 1.0)
        if profile.weight.mapping == "sign_magnitude"
        else 1.0
    )


def _folds(
    level: Shaped[np.ndarray, "cells weights"],
    deviation: Shaped[np.ndarray, "cells weights"],
    scale: Shaped[np.ndarray, "..."],
    weights: Shaped[np.ndarray, "*weight"],
    num_slices: int,
    profile: DeviceProfile,
) -> bool:
    """Tell whether devices make weights; `scale` holds the weight of one level with its sign."""
    programmed = level.astype(np.float64) + deviation
    total, size = np.zeros(weights.size), np.zeros(weights.size)
    for cell, values in enumerate(programmed):
        part = 2.0 ** (profile.device.bits * (cell % num_slices)) * values
        total += part if cell < num_slices else -part
        size += np.abs(part)
    if profile.weight.mapping == "offset":
        total -= 2**profile.weight.bits
    made, reach = total.reshape(weights.shape) * scale, size.reshape(weights.shape) * np.abs(scale)
    return bool(
        (
            np.abs(made - weights)
            <= _ROUNDING * (reach + np.abs(weights)) + len(programmed) * _SMALLEST
        ).all()
    )
