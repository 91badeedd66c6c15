"""The devices of one layer: what a profile's rules and the bits of its weights leave it with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.mapping.coding import num_slices

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer


def own_profile(layer: CrossbarLayer, profile: DeviceProfile) -> DeviceProfile:
    """Return the profile of one layer, without rules.

    Args:
        layer: The layer.
        profile: The profile whose rules were applied to it.
    """
    return with_stated_bits(profile.of_rule(layer.rule), layer.bits)


def with_stated_bits(profile: DeviceProfile, bits: int | None) -> DeviceProfile:
    """Return the profile with as few slices as hold weights of some bits.

    A weight of b bits takes ``ceil(b / K)`` devices (one bit more for the offset mapping). Its
    largest magnitude takes their full range, so M becomes what these devices hold,
    ``K ceil(b / K)``, and the box of a weight stays that of the profile: ``th max|W|``. Weights of
    as many slices as the profile has anyway are left as they are.

    Args:
        profile: The profile.
        bits: Bits of the weights, None: not stated.
    """
    if bits is None:
        return profile
    extra = 1 if profile.weight.mapping == "offset" else 0
    slices = math.ceil((bits + extra) / profile.device.bits)
    if slices >= num_slices(profile):
        return profile
    return replace(
        profile, weight=replace(profile.weight, bits=slices * profile.device.bits - extra)
    )
