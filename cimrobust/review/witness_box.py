"""Check a witness's deviations against their stored intervals, and its model file's weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.errors import CimrobustError
from cimrobust.input_file import printable
from cimrobust.mapping.coding import max_level
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.pattern_file import PARTS
from cimrobust.mapping.place import box_of, layer_drift_factor
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.review.stated_layer import layer_profile, rule_problem

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.certificate.models import Layer
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.network import Network

_MOST_NAMED = 3
# Float32 weights, scales and intervals.
_ROUNDING = 1e-6
# Smallest step of float32, for intervals that are denormal numbers.
_SMALLEST = 2.0**-149


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


def narrow_problem(
    tensors: Mapping[str, Shaped[np.ndarray, "..."]], layer: Layer, profile: DeviceProfile
) -> str:
    """Return where the intervals of one layer leave out what its devices allow, nothing if nowhere.

    Of intervals that depend on levels, only layers of one scale tell.

    Args:
        tensors: The file of deviations; `box_problem` finds nothing wrong with it.
        layer: The layer, as the certificate describes it.
        profile: The profile of the certificate.
    """
    if wrong_rule := rule_problem(layer, profile):
        return wrong_rule
    name, own = layer.initializer, layer_profile(layer, profile)
    nominal, lo, hi = (tensors[f"{name}.{part}"] for part in ("nominal", "lo", "hi"))
    top = layer.scale_max * max_level(own)
    largest = float(np.abs(nominal).max(initial=0.0))
    # A scale is no denormal number, so weights that are have fewer levels than there are.
    if largest > top * (1 + _ROUNDING) or (
        largest < top * (1 - _ROUNDING) and layer.scale_max > 2 * float(np.finfo(np.float32).tiny)
    ):
        return (
            f"the largest weight of '{printable(name)[:100]}' is {largest:g}, its scale says"
            f" {top:g}"
        )
    if own.depends_on_level and layer.scale_min != layer.scale_max:
        return ""
    weights, scale = np.ascontiguousarray(nominal, dtype=np.float32), np.array([layer.scale_min])
    factor = layer_drift_factor(weights, None, scale, own)
    least, most = box_of(weights, None, scale, own, compensation=factor)
    slack = _ROUNDING * np.maximum(-least, most) + _SMALLEST
    if (lo > least + slack).any() or (hi < most - slack).any():
        return f"the box of '{printable(name)[:100]}' is narrower than its devices make it"
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
