"""The smallest and largest deviation of every weight of a layer: its side of the tolerance box."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

import numpy as np

from cimrobust import _native
from cimrobust.device.box_rounding import toward_zero
from cimrobust.device.intervals import deviation_interval, level_bounds
from cimrobust.mapping.coding import (
    flat_group,
    level_coding,
    max_level,
    mirrors_negative,
    num_slices,
)
from cimrobust.mapping.made_weights import Stored, read

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Float64, Int32
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.placement import Limits


@dataclass(frozen=True)
class MadeLimits:
    """The box of a layer, made when it is asked for; one that somebody still has is given again.

    Attributes:
        stored: Quantised weights, or what makes them.
        group: Index of the scale of every weight; None: there is one.
        scale: Weight of one level of every scale group.
        profile: Devices of the layer.
        compensation: Drift compensation factor of the layer.
    """

    stored: Stored
    group: Int32[np.ndarray, "*weight"] | None
    scale: Float64[np.ndarray, "scales"]
    profile: DeviceProfile
    compensation: float
    _known: list[ReferenceType[Float32[np.ndarray, "*weight"]]] = field(
        default_factory=list, compare=False, repr=False
    )

    def __call__(self) -> Limits:
        """Return smallest and largest deviations, float32 in the shape of the weights."""
        lo, hi = (known() for known in self._known) if self._known else (None, None)
        if lo is None or hi is None:
            made = box_of(
                read(self.stored),
                self.group,
                self.scale,
                self.profile,
                compensation=self.compensation,
            )
            for array in made:
                array.setflags(write=False)
            lo, hi = (made[0] if lo is None else lo), (made[1] if hi is None else hi)
            self._known[:] = [ref(lo), ref(hi)]
        return lo, hi


def box_of(
    nominal: Float32[np.ndarray, "*weight"],
    group: Int32[np.ndarray, "*weight"] | None,
    scale: Float64[np.ndarray, "scales"],
    profile: DeviceProfile,
    *,
    compensation: float,
) -> tuple[Float32[np.ndarray, "*weight"], Float32[np.ndarray, "*weight"]]:
    """Return the smallest and largest deviation of every weight.

    Both are float32 in the shape of the weights.
    """
    lo, hi = np.empty_like(nominal), np.empty_like(nominal)
    if profile.depends_on_level:
        low, high = level_bounds(profile, compensation=compensation)
        coding = level_coding(profile, has_remainder=False)
        _native.emit_level_box(
            nominal.ravel(),
            flat_group(group),
            scale,
            low,
            high,
            lo.reshape(-1),
            hi.reshape(-1),
            coding=coding,
        )
        return lo, hi
    low, high = group_bounds(scale, profile)
    _native.emit_box(
        nominal.ravel(),
        flat_group(group),
        low,
        high,
        mirrors_negative(profile),
        lo.reshape(-1),
        hi.reshape(-1),
    )
    return lo, hi


def group_bounds(
    scale: Float64[np.ndarray, "scales"], profile: DeviceProfile
) -> tuple[Float32[np.ndarray, "scales"], Float32[np.ndarray, "scales"]]:
    """Return the smallest and largest deviation of a non-negative weight.

    Float32 [num_scales], rounded towards zero. For profiles whose deviations do not depend on the
    level.

    With ``[a, b]`` the interval of a device in level units, slices add up to ``scale * sum_j 2^(K
    j) * [a, b]``; in a pair the negative device
    adds ``-[a, b]``. Where K divides M this is ``max|W|`` times the tolerance as a fraction of the
    full range, whatever M.
    """
    bits = profile.device.bits
    weights = sum(2 ** (bits * slice_index) for slice_index in range(num_slices(profile)))
    low, high = (bound * (2**bits - 1) * weights for bound in deviation_interval(profile))
    if profile.weight.mapping == "differential":
        low, high = low - high, high - low
    return toward_zero(scale * low), toward_zero(scale * high)


def box_table(
    profile: DeviceProfile, *, compensation: float = 1.0
) -> tuple[Float32[np.ndarray, "levels"], Float32[np.ndarray, "levels"]]:
    """Return the smallest and largest deviation of a weight at every level.

    Both are in levels of the weight, float32 [2 * max_level + 1].

    The box is linear in the scale, so this table times the scale is the box of any tensor, up to a
    rounding. The first entry is that of the most negative level.

    Args:
        profile: The device profile.
        compensation: Drift compensation factor of the layer.
    """
    top = max_level(profile)
    return box_of(
        np.arange(-top, top + 1, dtype=np.float32),
        None,
        np.ones(1),
        profile,
        compensation=compensation,
    )
