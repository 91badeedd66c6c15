"""Whether the numbers of a profile make sense at every level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.curve import Number, number_at
from cimrobust.device.intervals import programming_intervals

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile

# Of a fraction of the range, or of an exponent: what is larger leaves float32 once it is folded
# into weights.
_MOST = 1e6


def number_problems(profile: DeviceProfile) -> list[str]:
    """Return what is wrong with the numbers of a profile.

    Each problem is given with its dotted key, the level and the value.
    """
    device, drift = profile.device, profile.drift
    widths: dict[str, Number | None] = {
        "device.sigma": device.sigma,
        "device.tolerance": device.tolerance,
        "device.tolerance_low": device.tolerance_low,
        "device.tolerance_high": device.tolerance_high,
        "relaxation.sigma": None if profile.relaxation is None else profile.relaxation.sigma,
        "read_noise.sigma": None if profile.read_noise is None else profile.read_noise.sigma,
    }
    any_sign: dict[str, Number | None] = {}
    if drift is not None:
        widths |= {"drift.exponent_sd": drift.exponent_sd, "drift.sd": drift.sd}
        any_sign = {"drift.exponent_mean": drift.exponent_mean, "drift.mean": drift.mean}
        any_sign |= {
            "drift.mean_per_log_second": drift.mean_per_log_second,
            "drift.sd_per_log_second": drift.sd_per_log_second,
        }
    found = [_problem(profile, key, number, least=0.0) for key, number in widths.items()]
    found += [_problem(profile, key, number, least=-np.inf) for key, number in any_sign.items()]
    return [
        problem
        for problem in (*found, _shrinking(profile), _outside(profile))
        if problem is not None
    ]


def _problem(
    profile: DeviceProfile, key: str, number: Number | None, *, least: float
) -> str | None:
    values = number_at(number, profile.level_positions(), profile.window)
    wrong = ~np.isfinite(values) | (values < least) | (np.abs(values) > _MOST)
    if not wrong.any():
        return None
    level = int(np.argmax(wrong))
    rule = "finite" if least < 0 else "finite and not negative"
    rule = (
        f"at most {_MOST:g} in size"
        if values[level] > _MOST and np.isfinite(values[level])
        else rule
    )
    return (
        f"key '{key}' must be {rule} at every level, is {float(values[level]):g} at level {level}"
    )


def _shrinking(profile: DeviceProfile) -> str | None:
    drift = profile.drift
    if drift is None:
        return None
    growth = number_at(drift.sd_per_log_second, profile.level_positions(), profile.window)
    final = number_at(drift.sd, profile.level_positions(), profile.window) + growth * drift.log_time
    return (
        "keys 'drift.sd' and 'drift.sd_per_log_second' give a negative deviation at 'time_seconds'"
        if (final < 0).any()
        else None
    )


def _outside(profile: DeviceProfile) -> str | None:
    """Return the first level whose measured quantiles leave the tolerance."""
    device = profile.device
    if not (device.level_quantiles and device.is_verified):
        return None
    low, high = programming_intervals(profile)
    for level, row in enumerate(device.level_quantiles):
        if row[0] < low[level] or row[-1] > high[level]:
            return (
                "key 'device.level_quantiles' must lie within the tolerance at every level, is"
                f" {row[0]:g} to {row[-1]:g} at level {level}"
            )
    return None
