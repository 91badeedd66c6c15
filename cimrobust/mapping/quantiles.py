"""The quantile function of a device's deviation, tabulated for the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from cimrobust.device.profile import DeviceProfile

SEGMENT_BITS = 6
NUM_OCTAVES = 32
HALF_SIZE = (NUM_OCTAVES << SEGMENT_BITS) + 1


@dataclass(frozen=True)
class QuantileTable:
    """Deviation of one device in level units as a function of 32 random bits; layout as in native/include/cimrobust/program.hpp.

    Attributes:
        knots: float32 [2 * HALF_SIZE], lower half first; each half starts at its end of the distribution.
        slopes: float32, difference to the next knot; 0 for the last of each half.
    """

    knots: np.ndarray
    slopes: np.ndarray


def tabulate(profile: DeviceProfile) -> QuantileTable:
    """Tabulate the distribution of a profile.

    A probability is ``(m + 0.5) / 2^32`` from the nearer end; segments are 1/64 of an octave of it, linear in between, so that the error of a Gaussian is
    under 1e-4 sigma down to probabilities of 1e-10. The widest segments, next to the median, hold 1/256 of the probability: steps of a measured table
    finer than that are smoothed there, by at most that much probability; its extremes are kept.
    """
    probability = _knot_distances() / 2.0**32
    levels = 2**profile.device.bits - 1
    lower = levels * quantile(profile, probability, from_top=False)
    upper = levels * quantile(profile, probability, from_top=True)
    # Float32 rounding may not carry a device out of its tolerance.
    low, high = (levels * bound for bound in profile.deviation_interval())
    clamps = profile.device.distribution != "gaussian"
    halves = [_toward_zero(np.clip(half, low, high)) if clamps else half.astype(np.float32) for half in (lower, upper)]
    slopes = [np.append(np.diff(half), np.float32(0)).astype(np.float32) for half in halves]
    table = QuantileTable(np.concatenate(halves), np.concatenate(slopes))
    for array in (table.knots, table.slopes):
        array.setflags(write=False)
    return table


def quantile(profile: DeviceProfile, probability: np.ndarray, *, from_top: bool) -> np.ndarray:
    """Return the deviation at probabilities counted from one end of the distribution, as fractions of the full conductance range.

    Args:
        profile: The device profile.
        probability: In [0, 0.5], float64.
        from_top: Count from the largest deviation downwards.
    """
    device = profile.device
    sign = -1.0 if from_top else 1.0
    if device.distribution == "table":
        grid = np.linspace(0.0, 1.0, len(device.quantiles))
        return np.asarray(np.interp(1.0 - probability if from_top else probability, grid, device.quantiles))
    if device.distribution == "uniform":
        tolerance = device.tolerance or 0.0
        return np.asarray(sign * tolerance * (2.0 * probability - 1.0))
    sigma = device.sigma or 0.0
    if sigma == 0.0 or device.tolerance == 0.0:
        return np.zeros_like(probability)
    tail = 0.0 if device.tolerance is None else float(ndtr(-device.tolerance / sigma))
    return np.asarray(sign * sigma * ndtri(tail + probability * (1.0 - 2.0 * tail)))


def _knot_distances() -> np.ndarray:
    """Return the distances m + 0.5 at which segments begin: 64 an octave from 0.5 to 2^31, and the end."""
    octave, place = np.divmod(np.arange(HALF_SIZE), 1 << SEGMENT_BITS)
    return np.asarray(np.ldexp(0.5 * (1.0 + place / (1 << SEGMENT_BITS)), octave))


def _toward_zero(values: np.ndarray) -> np.ndarray:
    """Round to float32, never away from zero."""
    rounded = values.astype(np.float32)
    outside = np.abs(rounded.astype(np.float64)) > np.abs(values)
    return np.where(outside, np.nextafter(rounded, np.float32(0)), rounded).astype(np.float32)
