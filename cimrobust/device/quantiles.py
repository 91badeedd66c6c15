"""The quantile functions of a device's deviation, tabulated for the kernel."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64
from scipy.special import ndtri

from cimrobust.device.box_rounding import toward_zero
from cimrobust.device.distribution import final_quantile, programming_quantile
from cimrobust.device.intervals import level_bounds

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile

SEGMENT_BITS = 6
NUM_OCTAVES = 32
HALF_SIZE = (NUM_OCTAVES << SEGMENT_BITS) + 1


@dataclass(frozen=True)
class QuantileTable:
    """Deviation of one device in level units as a function of 32 random bits.

    Layout as in native/include/cimrobust/program.hpp.

    Attributes:
        knots: float32 [num_tables * 2 * HALF_SIZE], one table a level or one for all, in a table
            lower half first; each half starts at its end of the distribution.
        slopes: float32, difference to the next knot; 0 for the last of each half.
    """

    knots: Float32[np.ndarray, "knots"]
    slopes: Float32[np.ndarray, "knots"]

    @property
    def num_tables(self) -> int:
        """Tables: one a level, or one for all levels."""
        return int(self.knots.size) // (2 * HALF_SIZE)


def tabulate(profile: DeviceProfile, *, compensation: float = 1.0) -> QuantileTable:
    """Tabulate the distribution of a profile, of every level where it depends on the level.

    A probability is ``(m + 0.5) / 2^32`` from the nearer end; segments are 1/64 of an octave of it,
    linear in between, so that the error of a Gaussian is under 1e-4 sigma down to probabilities of
    1e-10. The widest segments, next to the median, hold 1/256 of the probability: steps of a
    measured table finer than that are smoothed there, by at most that much probability; its
    extremes are kept. What relaxation and drift add is computed by quadrature
    (`device.distribution`).

    Args:
        profile: The device profile.
        compensation: Drift compensation factor of the layer; a device then reads as its drifted
            level times this.
    """
    levels = profile.device.num_levels - 1
    bounds = level_bounds(profile, compensation=compensation)
    knots, slopes = [], []
    for level, halves in enumerate(_deviations(profile)):
        low, high = (float(bound[level]) for bound in bounds)
        for deviation in halves:
            scaled = levels * deviation
            if compensation != 1.0:
                scaled = compensation * (level + scaled) - level
            # Float32 rounding may not carry a device out of its tolerance.
            half = (
                toward_zero(np.clip(scaled, low, high))
                if profile.is_bounded
                else scaled.astype(np.float32)
            )
            knots.append(half)
            slopes.append(np.append(np.diff(half), np.float32(0)).astype(np.float32))
    table = QuantileTable(np.concatenate(knots), np.concatenate(slopes))
    for array in (table.knots, table.slopes):
        array.setflags(write=False)
    return table


def quantile(
    profile: DeviceProfile,
    probability: Float64[np.ndarray, "*shape"],
    *,
    from_top: bool,
    level: int = 0,
) -> Float64[np.ndarray, "*shape"]:
    """Return the programming error at probabilities counted from one end of its distribution.

    It is a fraction of the full conductance range.

    Args:
        profile: The device profile.
        probability: In [0, 0.5], float64.
        from_top: Count from the largest deviation downwards.
        level: The level that the device is programmed to.
    """
    return programming_quantile(profile, level)(probability, from_top)


def _deviations(
    profile: DeviceProfile,
) -> tuple[tuple[Float64[np.ndarray, "knots"], Float64[np.ndarray, "knots"]], ...]:
    """Return the deviation at the knots of both halves, for every table.

    Deviations are fractions of the full range, shared by layers of any compensation.
    """
    with (
        _ONE_AT_A_TIME
    ):  # trials on several threads ask at once, and 256 levels with random drift take seconds
        return _all_deviations(profile)


@lru_cache(maxsize=8)
def _all_deviations(
    profile: DeviceProfile,
) -> tuple[tuple[Float64[np.ndarray, "knots"], Float64[np.ndarray, "knots"]], ...]:
    probability = _knot_distances() / 2.0**32
    levels = range(profile.device.num_levels) if profile.depends_on_level else range(1)

    def halves(level: int) -> tuple[Float64[np.ndarray, "knots"], Float64[np.ndarray, "knots"]]:
        function = final_quantile(profile, level)
        return function(probability, False), function(probability, True)

    with ThreadPoolExecutor(min(len(levels), os.cpu_count() or 1)) as pool:
        return tuple(pool.map(halves, levels))


_ONE_AT_A_TIME = Lock()


@lru_cache(maxsize=1)
def standard_normal() -> QuantileTable:
    """Return the table of the standard normal distribution."""
    lower = ndtri(_knot_distances() / 2.0**32)
    halves = [lower.astype(np.float32), (-lower).astype(np.float32)]
    slopes = [np.append(np.diff(half), np.float32(0)).astype(np.float32) for half in halves]
    table = QuantileTable(np.concatenate(halves), np.concatenate(slopes))
    for array in (table.knots, table.slopes):
        array.setflags(write=False)
    return table


def _knot_distances() -> Float64[np.ndarray, "knots"]:
    """Return the distances m + 0.5 at which segments begin.

    64 an octave from 0.5 to 2^31, and the end.
    """
    octave, place = np.divmod(np.arange(HALF_SIZE), 1 << SEGMENT_BITS)
    return np.asarray(np.ldexp(0.5 * (1.0 + place / (1 << SEGMENT_BITS)), octave))
