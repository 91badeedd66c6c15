"""Check a witness's deviations against their stored intervals, and its model file's weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.errors import CimrobustError
from cimrobust.input_file import printable
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.pattern_file import PARTS
from cimrobust.onnx_io.scan import scan_layers

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.network import Network

_MOST_NAMED = 3


def deviating_layers(tensors: Mapping[str, Shaped[np.ndarray, "..."]]) -> set[str]:
    """Return the names of the layers that a file of deviations is about."""
    return {key.rsplit(".", 1)[0] for key in tensors if "." in key}


def box_problem(
    tensors: Mapping[str, Shaped[np.ndarray, "..."]],
    stored: Mapping[str, Shaped[np.ndarray, "..."]],
    name: str,
) -> str:
    """Return what is wrong with one layer of a witness, nothing if nothing is.

    Args:
        tensors: The file of deviations.
        stored: Initializers of the model file.
        name: The layer.
    """
    shown = printable(name)[:100]
    missing = [f"{shown}.{part}" for part in PARTS if f"{name}.{part}" not in tensors]
    if missing or name not in stored:
        return f"missing {missing or shown}"
    arrays = [tensors[f"{name}.{part}"] for part in PARTS]
    if any(array.shape != stored[name].shape for array in arrays):
        return f"parts of '{shown}' have other shapes than its weights"
    nominal, lo, hi, deviation = arrays
    if not ((lo <= deviation) & (deviation <= hi)).all():
        return f"a deviation of '{shown}' leaves its interval"
    if not np.array_equal(stored[name], nominal + deviation):
        return f"weights of '{shown}' are not nominal + deviation"
    return ""


def left_out(
    witness: Network,
    profile: DeviceProfile,
    named: Collection[str],
    digital: Collection[str] | None = None,
) -> str:
    """Return the layers of a witness's model file that are stored in devices but named nowhere.

    Nobody has checked their weights.

    Args:
        witness: The model file; it has the layers of the certified network under their names.
        profile: The devices.
        named: Layers that are named.
        digital: Nodes that are said to stay digital; None: nobody says.
    """
    try:
        found = {layer.initializer for layer in stored_layers(witness, profile)[1].layers}
    except CimrobustError:
        # Rules may name nodes of the certified network that the model file lacks. Then all layers
        # are stored in devices but those that are listed as digital.
        if digital is None:
            return ""
        found = {
            layer.initializer
            for layer in scan_layers(witness).layers
            if not {use.node for use in layer.uses} <= set(digital)
        }
    extra = found - set(named)
    return ", ".join(f"'{printable(name)[:100]}'" for name in sorted(extra)[:_MOST_NAMED])
