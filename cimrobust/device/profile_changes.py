"""A profile with other layers in devices, or another tolerance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.device.curve import Curve, Number, scale_number
from cimrobust.device.intervals import largest_programming_error
from cimrobust.device.layer_rules import DIGITAL_OPTION, LayerRule
from cimrobust.device.profile import DeviceProfile, rules_with
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.device.core_tables import DeviceTable


def with_digital(profile: DeviceProfile, patterns: Iterable[str]) -> DeviceProfile:
    """Return the profile with further rules, behind its own: layers that stay digital.

    Args:
        profile: The profile to change.
        patterns: Patterns as of `LayerRule.match`.

    Raises:
        UsageError: A pattern is empty, or one text was given in place of several patterns.
    """
    if isinstance(patterns, str):
        raise UsageError(
            f"digital layers must be given as a list of patterns, got the text '{patterns}'; write"
            f" ['{patterns}']"
        )
    patterns = tuple(patterns)
    if not all(patterns):
        raise UsageError(
            f"pattern of digital layers must not be empty, got '' ({DIGITAL_OPTION}); name a layer"
        )
    more = tuple(
        LayerRule(match=pattern, digital=True, source=DIGITAL_OPTION) for pattern in patterns
    )
    return replace(profile, rules=(*profile.rules, *more)) if more else profile


def with_tolerance(profile: DeviceProfile, tolerance: float) -> DeviceProfile:
    """Return the profile with another write-verify tolerance, the distribution keeping its shape.

    Sigma, measured quantiles and curves are scaled by the same factor, so that the distribution
    fills the new window as it filled the old one; of a tolerance that depends on level or side, the
    largest becomes the one asked for. From a profile without write-verify, z sigmas become the
    tolerance and the Gaussian is truncated there. Faults, relaxation and drift stay as they are.

    Layers with devices of their own keep the ratio of their tolerance to the profile's, up to the
    full range: at half the tolerance theirs is half, at 0 no device deviates. Where the profile's
    own tolerance is 0 there is no ratio, and they keep their tolerance.

    Args:
        profile: The profile to change.
        tolerance: Fraction of the full conductance range, in [0, 1].
    """
    old = largest_programming_error(profile)

    def scaled_rule(rule_device: DeviceTable) -> DeviceTable:
        own = replace(profile, device=rule_device, rules=())
        error = largest_programming_error(own)
        if error == old:
            return _scaled_device(own, tolerance)
        return _scaled_device(own, min(error * tolerance / old, 1.0)) if old > 0 else rule_device

    return replace(
        profile,
        name=f"{profile.name}@{100 * tolerance:g}pct",
        device=_scaled_device(profile, tolerance),
        rules=rules_with(profile.rules, scaled_rule),
    )


def _scaled_device(profile: DeviceProfile, tolerance: float) -> DeviceTable:
    device, old = profile.device, largest_programming_error(profile)
    factor = tolerance / old if old > 0 else 1.0
    two_sided = device.tolerance_low is not None
    if isinstance(device.tolerance, Curve):
        scaled: Number | None = device.tolerance.scaled(factor)
    elif device.distribution == "gaussian" and isinstance(device.sigma, Curve):
        scaled = device.sigma.scaled(device.z * factor)
    else:
        scaled = None if two_sided else tolerance
    return replace(
        device,
        tolerance=scaled,
        tolerance_low=scale_number(device.tolerance_low, factor),
        tolerance_high=scale_number(device.tolerance_high, factor),
        sigma=scale_number(device.sigma, factor),
        quantiles=tuple(value * factor for value in device.quantiles),
        level_quantiles=tuple(
            tuple(value * factor for value in row) for row in device.level_quantiles
        ),
        distribution=(
            "truncated_gaussian" if device.distribution == "gaussian" else device.distribution
        ),
    )
