"""The interval in which a fault-free device ends, level by level."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.curve import number_at

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64
    from cimrobust.device.effect_tables import DriftTable
    from cimrobust.device.profile import DeviceProfile


def programming_intervals(
    profile: DeviceProfile,
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    """Return the smallest and largest programming error at every level.

    Both are fractions of the full range, float64 [num_levels].
    """
    device, positions = profile.device, profile.level_positions()
    if device.is_verified:
        sides = (
            (device.tolerance_low, device.tolerance_high)
            if device.tolerance is None
            else (device.tolerance, device.tolerance)
        )
        low, high = (number_at(side, positions, profile.window) for side in sides)
        return -low, high
    if device.level_quantiles:
        ends = np.array([(min(row[0], 0.0), max(row[-1], 0.0)) for row in device.level_quantiles])
        return ends[:, 0], ends[:, 1]
    if device.distribution == "table":
        return np.full_like(positions, min(device.quantiles[0], 0.0)), np.full_like(
            positions, max(device.quantiles[-1], 0.0)
        )
    width = device.z * number_at(device.sigma, positions, profile.window)
    return -width, width


def largest_programming_error(profile: DeviceProfile) -> float:
    """Return the largest absolute programming error of any level.

    It is a fraction of the full range.
    """
    low, high = programming_intervals(profile)
    return float(max(-low.min(), high.max()))


@lru_cache(maxsize=128)
def level_intervals(
    profile: DeviceProfile, *, compensation: float = 1.0
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    """Return the smallest and largest deviation at every level from t0 to the stated time.

    Both are fractions of the full range.

    Programming error (tolerance, or z sigmas), z sigmas of relaxation, clipping, and drift with
    exponents or shifts within z sigmas: the ends of all are taken together. Neither end passes
    zero, as nothing has drifted at t0.

    Args:
        profile: The device profile.
        compensation: Drift compensation factor c of the layer at the stated time t; at an earlier
            time u it is c^(ln(u/t0) / ln(t/t0)).
    """
    low, high = _reached(profile, compensation)
    for array in (low, high):
        array.setflags(write=False)
    return low, high


def level_bounds(
    profile: DeviceProfile, *, compensation: float = 1.0
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    """Return the smallest and largest deviation of a fault-free device at every level.

    In level units, float64 [num_levels]. They hold from t0 to the stated time; stuck devices are
    outside.

    Args:
        profile: The device profile.
        compensation: Drift compensation factor of the layer at the stated time.
    """
    low, high = level_intervals(profile, compensation=compensation)
    return (profile.device.num_levels - 1) * low, (profile.device.num_levels - 1) * high


def deviation_interval(profile: DeviceProfile) -> tuple[float, float]:
    """Return the smallest and largest deviation that the tolerance box holds.

    Of a fault-free device, as fractions of the full range. The widest over the levels, before any
    drift compensation.
    """
    low, high = level_intervals(profile)
    return float(low.min()), float(high.max())


def tolerance_fraction(profile: DeviceProfile) -> float:
    """Return the largest absolute deviation that the tolerance box holds, as a fraction."""
    low, high = deviation_interval(profile)
    return max(-low, high)


def final_intervals(
    profile: DeviceProfile,
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    """As `level_intervals`, but of the deviations at the stated time alone, without compensation.

    They need not hold zero.
    """
    low, high = _before_drift(profile)
    drift, positions = profile.drift, profile.level_positions()
    if drift is None or not profile.has_drift:
        return low, high
    ends = np.stack(
        [
            _read(profile, drift, positions + end, z, drift.log_time)
            for end in (low, high)
            for z in (-drift.z, drift.z)
        ]
    )
    ends = np.clip(ends, *profile.conductance_limits) if profile.clips else ends
    return ends.min(axis=0) - positions, ends.max(axis=0) - positions


def _reached(
    profile: DeviceProfile, compensation: float
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    low, high = _before_drift(profile)
    drift, positions = profile.drift, profile.level_positions()
    if drift is None or not profile.has_drift:
        return low, high
    rate = float(np.log(compensation)) / drift.log_time
    starts = (positions + low, positions + high)
    reach = np.stack(
        [*starts, *(read for start in starts for read in _reads(profile, drift, start, rate))]
    )
    least, most = reach.min(axis=0), reach.max(axis=0)
    if profile.clips:
        # Readings are conductances times a factor between 1 and the compensation.
        bottom, top = profile.conductance_limits
        factors = (min(1.0, compensation), max(1.0, compensation))
        least = np.minimum(np.maximum(least, bottom * factors[1]), top * factors[0])
        most = np.maximum(np.minimum(most, top * factors[1]), bottom * factors[0])
    return np.minimum(least - positions, 0.0), np.maximum(most - positions, 0.0)


def _before_drift(
    profile: DeviceProfile,
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    low, high = programming_intervals(profile)
    positions = profile.level_positions()
    if profile.relaxation is not None:
        width = profile.relaxation.z * number_at(
            profile.relaxation.sigma, positions, profile.window
        )
        low, high = low - width, high + width
    if profile.clips:
        bottom, top = profile.conductance_limits
        low, high = np.maximum(low, bottom - positions), np.minimum(high, top - positions)
    return low, high


def _read(
    profile: DeviceProfile,
    drift: DriftTable,
    start: Float64[np.ndarray, "levels"],
    z: float,
    log_time: Float64[np.ndarray, "levels"] | float,
) -> Float64[np.ndarray, "levels"]:
    """Return where a device has drifted to, z sigmas from the mean.

    The device starts at a normalised conductance.
    """
    positions, window = profile.level_positions(), profile.window
    if drift.model == "power":
        exponent = number_at(drift.exponent_mean, positions, window) + z * number_at(
            drift.exponent_sd, positions, window
        )
        floor = 0.0 if window is None else window.floor
        return np.asarray((start + floor) * np.exp(-exponent * log_time) - floor)
    constant, growth = shift_terms(profile, drift, z)
    return np.asarray(start + constant + growth * log_time)


def shift_terms(
    profile: DeviceProfile, drift: DriftTable, z: float
) -> tuple[Float64[np.ndarray, "levels"], Float64[np.ndarray, "levels"]]:
    """Return the constant and the growth of a shift z sigmas from the mean, at every level.

    The growth is per factor e of time.
    """
    positions, window = profile.level_positions(), profile.window
    constant = number_at(drift.mean, positions, window) + z * number_at(drift.sd, positions, window)
    growth = number_at(drift.mean_per_log_second, positions, window) + z * number_at(
        drift.sd_per_log_second, positions, window
    )
    return constant, growth


def _reads(
    profile: DeviceProfile, drift: DriftTable, start: Float64[np.ndarray, "levels"], rate: float
) -> list[Float64[np.ndarray, "levels"]]:
    """Return the compensated readings among which the extremes over time lie.

    They are those for a start and the ends of the drift.

    With s = ln(t / t0), a power law reads (start + floor) e^((rate - nu) s) - floor e^(rate s), and
    a shift (start + constant + growth s) e^(rate s): the extremes over s are at the ends or where
    the derivative is zero.
    """
    reads = []
    for z in (-drift.z, drift.z):
        still = _still_time(profile, drift, start, z, rate)
        for log_time in (np.zeros_like(start), still, np.full_like(start, drift.log_time)):
            reads.append(np.exp(rate * log_time) * _read(profile, drift, start, z, log_time))
    return reads


def _still_time(
    profile: DeviceProfile,
    drift: DriftTable,
    start: Float64[np.ndarray, "levels"],
    z: float,
    rate: float,
) -> Float64[np.ndarray, "levels"]:
    """Return ln(t / t0) at which a compensated reading stands still.

    It is put to the nearer end where there is none between.
    """
    positions, window = profile.level_positions(), profile.window
    with np.errstate(divide="ignore", invalid="ignore"):
        if drift.model == "power":
            exponent = number_at(drift.exponent_mean, positions, window) + z * number_at(
                drift.exponent_sd, positions, window
            )
            floor = 0.0 if window is None else window.floor
            still = np.log(rate * floor / ((rate - exponent) * (start + floor))) / -exponent
        else:
            constant, growth = shift_terms(profile, drift, z)
            still = (
                -1.0 / rate - (start + constant) / growth if rate != 0.0 else np.zeros_like(start)
            )
    return np.clip(
        np.nan_to_num(still, nan=0.0, posinf=drift.log_time, neginf=0.0), 0.0, drift.log_time
    )
