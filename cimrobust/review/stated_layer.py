"""The devices of one layer, as a certificate describes them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.input_file import printable

if TYPE_CHECKING:
    from cimrobust.certificate.models import Layer
    from cimrobust.device.profile import DeviceProfile


def rule_problem(layer: Layer, profile: DeviceProfile) -> str:
    """Return what is wrong with the rule that is said to decide for a layer, or nothing."""
    if layer.rule is None or layer.rule < len(profile.rules):
        return ""
    return (
        f"'{printable(layer.initializer)[:100]}' is decided by rule {layer.rule}, and the profile"
        f" has {len(profile.rules)}"
    )


def layer_profile(layer: Layer, profile: DeviceProfile) -> DeviceProfile:
    """Return the profile of one layer, without rules.

    Its weights may have fewer bits than those of the profile.

    Args:
        layer: The layer; `rule_problem` finds nothing wrong with it.
        profile: The profile of the certificate.
    """
    own = profile.of_rule(layer.rule)
    bits = min(layer.weight_bits, own.weight.bits)
    return replace(own, weight=replace(own.weight, bits=bits))
