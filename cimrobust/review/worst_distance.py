"""How far the worst chip lies from drawn chips, derived again from the files of the witness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate.blocks.likelihood import level_sigma, unfit
from cimrobust.device.load_profile import profile_of
from cimrobust.mapping.coding import cells_per_weight, num_slices
from cimrobust.mapping.place import group_maxima, level_weights
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.stated_layer import layer_profile
from cimrobust.review.witness_layers import scale_groups

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Shaped
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer

# Float32 scales and deviations.
_RTOL = 1e-5


def distance_check(
    certificate: CertificateModel,
    tensors: Mapping[str, Shaped[np.ndarray, "..."]],
    layers: Mapping[str, CrossbarLayer],
) -> ReplayCheck:
    """Derive distance and probability of the worst chip again.

    Args:
        certificate: The certificate.
        tensors: The file of deviations; each layer has its parts.
        layers: Layers of the model file by name.
    """
    claimed = certificate.worst_found.likelihood
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    own = {row.initializer: layer_profile(row, profile) for row in certificate.mapping.layers}
    reason = next((text for one in own.values() if (text := unfit(one))), None)
    is_today = is_of_today(certificate, certificate.tool)
    if reason is not None:
        # Earlier versions may have stated it of other profiles.
        held = claimed is None if is_today or claimed is None else None
        return ReplayCheck("worst_distance", held, f"none is stated now: {reason}")
    if claimed is None and not is_today:
        return ReplayCheck("worst_distance", None, "earlier versions did not state it")
    total, moving = 0.0, 0
    for row in certificate.mapping.layers:
        nominal, deviation, hi = (
            tensors[f"{row.initializer}.{part}"] for part in ("nominal", "deviation", "hi")
        )
        grouped = scale_groups(row, own[row.initializer], layers.get(row.initializer), hi)
        if grouped is None:
            return ReplayCheck("worst_distance", None, "no file tells the scales of every weight")
        weights = np.ascontiguousarray(nominal, dtype=np.float32)
        scale = level_weights(group_maxima(weights, *grouped), own[row.initializer])
        squares, counts = _by_group(deviation, grouped[0], len(scale))
        variance = scale**2 * _devices_squared(own[row.initializer])
        moves = variance > 0
        total += float((squares[moves] / variance[moves]).sum())
        moving += int(counts[moves].sum())
    if claimed is None:
        return ReplayCheck("worst_distance", moving == 0, f"not stated; {moving} weights deviate")
    distance, drawn = math.sqrt(total), math.sqrt(moving)
    held = math.isclose(claimed.distance, distance, rel_tol=_RTOL, abs_tol=_RTOL) and math.isclose(
        claimed.drawn_distance, drawn, rel_tol=_RTOL
    )
    return ReplayCheck(
        "worst_distance",
        held,
        f"{distance:.6g} standard deviations, a drawn chip {drawn:.6g}; it says"
        f" {claimed.distance:.6g} and {claimed.drawn_distance:.6g}",
    )


def _by_group(
    deviation: Shaped[np.ndarray, "..."], group: Shaped[np.ndarray, "..."] | None, num_groups: int
) -> tuple[Float64[np.ndarray, "groups"], Float64[np.ndarray, "groups"]]:
    """Return the sum of squares of deviations, and how many weights there are, by scale group."""
    if group is None:
        flat = deviation.ravel().astype(np.float64)
        return np.array([flat @ flat]), np.array([float(flat.size)])
    index = group.ravel()
    squares = np.bincount(index, deviation.ravel().astype(np.float64) ** 2, minlength=num_groups)
    return squares, np.bincount(index, minlength=num_groups).astype(np.float64)


def _devices_squared(profile: DeviceProfile) -> float:
    """Return the variance that all devices of a weight give it, in squared levels of the weight."""
    slices = num_slices(profile)
    factors = 4.0 ** (profile.device.bits * np.arange(slices))
    sides = cells_per_weight(profile) // slices
    return float(factors.sum()) * sides * level_sigma(profile) ** 2
