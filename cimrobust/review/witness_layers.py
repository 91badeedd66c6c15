"""The layers of a witness as its own files tell of them: arrays, scales and how wide the box is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.errors import CimrobustError
from cimrobust.input_file import printable
from cimrobust.mapping.coding import cells_per_weight, max_level
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import (
    group_maxima,
    layer_drift_factor,
    level_weights,
    reference_cells,
    scale_view,
    tiles_of,
)
from cimrobust.mapping.tolerance_limits import box_of
from cimrobust.review.stated_layer import layer_profile, rule_problem

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Float64, Int32, Shaped
    from cimrobust.certificate.models import Layer
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer
    from cimrobust.onnx_io.network import Network

# Float32 weights, scales and intervals.
_ROUNDING = 1e-6
# Smallest step of float32, for intervals that are denormal numbers.
_SMALLEST = 2.0**-149
# A scale is no denormal number, so weights that are have fewer levels than there are.
_COARSE = 2 * float(np.finfo(np.float32).tiny)


def witness_layers(witness: Network, profile: DeviceProfile) -> dict[str, CrossbarLayer]:
    """Return the layers of a witness's model file by name; none where its rules fit no node of it.

    Args:
        witness: The model file; it has the layers of the certified network under their names.
        profile: The devices.
    """
    try:
        return {layer.initializer: layer for layer in stored_layers(witness, profile)[1].layers}
    except CimrobustError:
        # Rules may name nodes of the certified network that the model file lacks.
        return {}


def placed_problem(
    tensors: Mapping[str, Shaped[np.ndarray, "..."]],
    layer: Layer,
    profile: DeviceProfile,
    found: CrossbarLayer | None,
) -> str:
    """Return where a layer is not what the witness's files make it; nothing if nowhere.

    Its arrays follow from the shape in the model file, its scales from the nominal weights, and how
    far its intervals reach at least from both. Of intervals that depend on levels, scales of groups
    that no file names are not told.

    Args:
        tensors: The file of deviations; `witness_box.box_problem` finds nothing wrong with it.
        layer: The layer, as the certificate describes it.
        profile: The profile of the certificate.
        found: The layer in the model file; None: it is not found there.
    """
    if wrong_rule := rule_problem(layer, profile):
        return wrong_rule
    own, name = layer_profile(layer, profile), printable(layer.initializer)[:100]
    if found is not None:
        wrong = list(_wrong_arrays(layer, own, found))
        if wrong:
            return f"{', '.join(wrong)} of '{name}' is not that of its weights in the model file"
    nominal, lo, hi = (tensors[f"{layer.initializer}.{part}"] for part in ("nominal", "lo", "hi"))
    weights = np.ascontiguousarray(nominal, dtype=np.float32)
    grouped = scale_groups(layer, own, found, hi)
    if grouped is None:
        return _largest_problem(weights, layer, own)
    group, num_groups = grouped
    scale = level_weights(group_maxima(weights, group, num_groups), own)
    for stated, follows in ((layer.scale_min, scale.min()), (layer.scale_max, scale.max())):
        if not math.isclose(stated, follows, rel_tol=_ROUNDING) and max(stated, follows) > _COARSE:
            return f"the scales of '{name}' are {follows:g} by its weights, it says {stated:g}"
    factor = layer_drift_factor(weights, group, scale, own)
    least, most = box_of(weights, group, scale, own, compensation=factor)
    slack = _ROUNDING * np.maximum(-least, most) + _SMALLEST
    if (lo > least + slack).any() or (hi < most - slack).any():
        return f"the box of '{name}' is narrower than its devices make it"
    return ""


def untold_scales(
    layers: Sequence[Layer], profile: DeviceProfile, found: Mapping[str, CrossbarLayer]
) -> list[str]:
    """Return the layers whose scales, and so whose boxes, no file of the witness tells.

    The largest of their scales is held to the largest weight; the others follow from the model.

    Args:
        layers: The layers, as the certificate describes them.
        profile: The profile of the certificate.
        found: Layers of the model file by name.
    """
    return [
        layer.initializer
        for layer in layers
        if _has_no_groups(layer, layer_profile(layer, profile), found.get(layer.initializer))
    ]


def _has_no_groups(layer: Layer, own: DeviceProfile, found: CrossbarLayer | None) -> bool:
    if not layer.levels_given and (own.weight.scale == "tensor" or found is not None):
        return False
    return own.depends_on_level


def _wrong_arrays(layer: Layer, own: DeviceProfile, found: CrossbarLayer) -> Iterator[str]:
    cells = cells_per_weight(own)
    expected = {
        "shape": list(found.shape),
        "groups": found.num_groups,
        "rows": found.num_rows,
        "columns": found.num_cols,
        "tiles": tiles_of(found, own, cells),
        "devices": math.prod(found.shape) * cells + reference_cells(found, own),
    }
    for name, value in expected.items():
        if getattr(layer, name) != value:
            yield name


def scale_groups(
    layer: Layer,
    own: DeviceProfile,
    found: CrossbarLayer | None,
    hi: Shaped[np.ndarray, "..."],
) -> tuple[Int32[np.ndarray, "..."] | None, int] | None:
    """Return the scale group of every weight and their number; None where no file tells."""
    if not layer.levels_given and own.weight.scale == "tensor":
        return None, 1
    if not layer.levels_given and found is not None:
        group, count = scale_view(found, own)
        return None if group is None else np.ascontiguousarray(group, dtype=np.int32), count
    if _has_no_groups(layer, own, found):
        return None
    # Scales of integers are the file's own. Weights of one scale reach equally far.
    reaches, group = np.unique(hi, return_inverse=True)
    return np.ascontiguousarray(group.reshape(hi.shape), dtype=np.int32), len(reaches)


def _largest_problem(
    weights: Float32[np.ndarray, "*weight"], layer: Layer, own: DeviceProfile
) -> str:
    """Return what is wrong with the largest scale, which the largest weight has."""
    largest: float = float(np.abs(weights).max(initial=0.0))
    scale: Float64[np.ndarray, "1"] = level_weights(np.array([largest]), own)
    if math.isclose(layer.scale_max, float(scale[0]), rel_tol=_ROUNDING) or scale[0] <= _COARSE:
        return ""
    return (
        f"the largest weight of '{printable(layer.initializer)[:100]}' is {largest:g}, its scale"
        f" says {layer.scale_max * max_level(own):g}"
    )
