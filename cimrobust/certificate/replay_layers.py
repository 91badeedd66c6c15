"""What is stored in devices and what is not, derived again from the network, the profile and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cimrobust.certificate.replay_check import ReplayCheck
from cimrobust.device.load import profile_of
from cimrobust.graph.layers import CrossbarLayer
from cimrobust.graph.network import Network
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import TensorPlacement

# The box is float32.
_ROUNDING = 1e-6


def layers_check(certificate: Mapping[str, Any], network: Network | None) -> ReplayCheck:
    """Check which rule decided for every layer, and what follows of its devices.

    Args:
        certificate: The certificate.
        network: The certified network; None: it is not at hand.
    """
    if network is None:
        return ReplayCheck("layers", None, "give --model to derive again which layers are stored, and in what devices")
    profile = profile_of(certificate["device"]["profile"], shown="certificate.json")
    _stored, scan = stored_layers(network, profile)
    placement = place(scan, profile)
    claimed = {row["initializer"]: row for row in certificate["mapping"]["layers"]}
    if set(claimed) != {layer.initializer for layer in scan.layers}:
        other = sorted(set(claimed) ^ {layer.initializer for layer in scan.layers})
        return ReplayCheck("layers", False, f"{', '.join(other[:3])} stored in one of certificate and network only")
    for layer in scan.layers:
        row, tensor = claimed[layer.initializer], placement.tensors[layer.initializer]
        wrong = _wrong(row, layer, tensor, profile.decider(layer.rule))
        if wrong:
            return ReplayCheck("layers", False, f"{wrong} of '{layer.initializer}' does not follow from network, profile and rules")
    return ReplayCheck("layers", True, f"{len(claimed)} layers decided, coded and placed as the profile and its rules say")


def _wrong(row: Mapping[str, Any], layer: CrossbarLayer, tensor: TensorPlacement, decider: str) -> str:
    """Return the first claim about a layer that does not hold, or nothing."""
    own = tensor.profile
    derived = {
        "rule": layer.rule,
        "decided_by": decider,
        "weight_bits": own.weight.bits,
        "device_bits": own.device.bits,
        "coding": own.weight.mapping,
        "slices": tensor.num_slices,
        "cells_per_weight": tensor.cells_per_weight,
        "devices": tensor.num_devices,
        "tiles": tensor.num_tiles,
    }
    wrong = next((key for key, value in derived.items() if row[key] != value), "")
    numbers = {"tolerance_fraction": own.tolerance_fraction(), "box_radius": tensor.box_radius}
    return wrong or next((key for key, value in numbers.items() if not np.isclose(row[key], value, rtol=_ROUNDING, atol=0)), "")
