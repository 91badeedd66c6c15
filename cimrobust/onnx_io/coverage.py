"""What stays digital, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.layouts import slots_of, uses_all_slots
from cimrobust.onnx_io.shapes import TensorType
from cimrobust.onnx_io.walk import all_nodes, int_attribute, op_name

if TYPE_CHECKING:
    from cimrobust.onnx_io.fold import Constants
    from cimrobust.onnx_io.weights import Weights, WeightUse

_REASONS = {
    "BatchNormalization": "digital: normalisation",
    "InstanceNormalization": "digital: normalisation",
    "LayerNormalization": "digital: normalisation",
    "GroupNormalization": "digital: normalisation",
    "RMSNormalization": "digital: normalisation",
    "SimplifiedLayerNormalization": "digital: normalisation",
    "com.microsoft::SkipLayerNormalization": "digital: normalisation",
    "com.microsoft::SkipSimplifiedLayerNormalization": "digital: normalisation",
    "Attention": "digital: product of activations",
    "com.microsoft::MultiHeadAttention": "digital: product of activations",
    "com.microsoft::GroupQueryAttention": "digital: product of activations",
    "ai.onnx.ml::LinearClassifier": "digital: weights are attributes of the node, not initializers",
    "ai.onnx.ml::LinearRegressor": "digital: weights are attributes of the node, not initializers",
    "ai.onnx.ml::SVMClassifier": "digital: weights are attributes of the node, not initializers",
    "ai.onnx.ml::SVMRegressor": "digital: weights are attributes of the node, not initializers",
    "ai.onnx.ml::TreeEnsembleClassifier": "digital: a tree, no matrix",
    "ai.onnx.ml::TreeEnsembleRegressor": "digital: a tree, no matrix",
    "ai.onnx.ml::TreeEnsemble": "digital: a tree, no matrix",
}


def slot_problem(use: WeightUse, constants: Constants) -> str | None:
    """Return why a weight that was found is not stored all the same, None if it is."""
    node, slot = use.node, use.slot
    if op_name(node) == "com.microsoft::QLinearConv" and int_attribute(node, "channels_last", 0):
        return "digital: channels-last form of QLinearConv is not covered"
    for position in slot.scalars:
        name = node.input[position] if position < len(node.input) else ""
        value = constants.value(name) if name else None
        if name and (value is None or value.size != 1):
            return (
                f"digital: scale or zero point '{name}' of an activation is not one constant number"
            )
    if op_name(node) == "MatMulInteger":
        name = node.input[5 - slot.index - 2] if len(node.input) > 5 - slot.index - 2 else ""
        value = constants.value(name) if name else None
        if value is not None and value.size != 1:
            return f"digital: zero point '{name}' of an activation is not one number"
    return None


def unmapped_nodes(
    weights: Weights, mapped: set[str], failed: Mapping[str, str]
) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Yield nodes that multiply or hold weights but stay digital, each with the reason.

    They are in graph order.
    """
    for node in all_nodes(weights.graph):
        if (node.name in mapped and node.name not in failed) or weights.constants.is_constant(
            node.output[0] if node.output else ""
        ):
            continue
        reason = failed.get(node.name) or _reason(node, weights.constants)
        if reason:
            yield node, reason


def _reason(node: onnx.NodeProto, constants: Constants) -> str | None:
    op = op_name(node)
    if op in _REASONS:
        return _REASONS[op]
    slots = slots_of(node)
    if slots:
        names = [node.input[slot.index] for slot in slots if slot.index < len(node.input)]
        if any(name and constants.is_constant(name) for name in names):
            return "digital: its weight is not a view of a stored tensor"
        has_alternatives = len(slots) > 1 and not uses_all_slots(node)
        return (
            "digital: product of two activations"
            if has_alternatives
            else "digital: its weight is computed at run time"
        )
    held = [kind for name in node.input if (kind := _constant_type(name, constants)) is not None]
    if op == "Gather" and held and _is_matrix(_constant_type(node.input[0], constants)):
        return "digital: embedding look-up"
    if op in ("Mul", "PRelu") and any(_num_elements(kind) > 1 for kind in held):
        return "digital: element-wise scale"
    if node.domain == "com.microsoft" and any(_is_matrix(kind) for kind in held):
        return f"digital: weights of {op} are not covered"
    return None


def _constant_type(name: str, constants: Constants) -> TensorType | None:
    """Return the type of an initializer that is not an index or shape tensor."""
    tensor = constants.tensor(name)
    if tensor is None or tensor.data_type in (
        onnx.TensorProto.INT64,
        onnx.TensorProto.BOOL,
        onnx.TensorProto.STRING,
    ):
        return None
    return TensorType(tensor.data_type, tuple(tensor.dims))


def _num_elements(kind: TensorType) -> int:
    count = 1
    for dim in kind.static_shape or ():
        count *= dim
    return count


def _is_matrix(kind: TensorType | None) -> bool:
    return kind is not None and len(kind.static_shape or ()) >= 2 and _num_elements(kind) > 1
