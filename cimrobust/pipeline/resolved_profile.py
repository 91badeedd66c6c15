"""The devices that are asked for: a profile, and what is to be changed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_digital, with_tolerance
from cimrobust.pipeline.arguments import check_tolerance

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile


def resolve_profile(
    device: str, tolerance: float | None, digital: Sequence[str] = ()
) -> DeviceProfile:
    """Load a device profile, with another tolerance if one is given, and further digital layers."""
    check_tolerance(tolerance)
    profile = load_profile(device)
    return with_digital(
        profile if tolerance is None else with_tolerance(profile, tolerance), digital
    )
