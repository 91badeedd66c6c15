"""Along which axis the last layer of a graph puts its outputs, read from the graph alone."""

from __future__ import annotations

import onnx

from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.walk import int_attribute

# What changes values and leaves every axis where it is.
_SAME_AXES = frozenset(
    {
        "Identity",
        "Cast",
        "Dropout",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "Clip",
        "Elu",
        "Selu",
        "Softplus",
        "Exp",
        "Log",
        "Sqrt",
        "Neg",
    }
    | {
        "QuantizeLinear",
        "DequantizeLinear",
        "BatchNormalization",
        "InstanceNormalization",
        "Resize",
        "Upsample",
        "MaxPool",
        "AveragePool",
    }
    | {"Add", "Sub", "Mul", "Div"}
)
_CHANNELS_SECOND = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_FEATURES_LAST = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})
_SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
# From this opset on, the axis of a Softmax is one axis, before all from it on.
_ONE_AXIS = 13


def output_axis(model: onnx.ModelProto, output: str) -> tuple[int, str] | None:
    """Return the axis of an output that a Softmax or the last layer shows, and that node.

    A Softmax goes over it, or the last layer with weights puts its outputs along it.

    Args:
        model: Normalised model.
        output: Name of the graph output.

    Returns:
        The axis, that of the samples counted, and a phrase; None where the graph does not show it.
    """
    types = infer_types(model, strict=False)
    kind = types.get(output)
    if kind is None or kind.shape is None:
        return None
    axes = list(range(len(kind.shape)))  # which axis of the output each axis of the tensor becomes
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    name = output
    while (node := makers.get(name)) is not None:
        found = _shown(node, len(axes), _opset(model), constants, makers)
        if found is not None:
            return axes[found], f"{node.op_type} '{node.name}'"
        if node.op_type == "Transpose":
            axes = _before(node, axes)
        elif node.op_type not in _SAME_AXES:
            return None
        moved = [source for source in node.input if source and source not in constants]
        if not moved or (node.op_type in ("Add", "Sub", "Mul", "Div") and len(moved) > 1):
            return None
        name, before = moved[0], types.get(moved[0])
        if before is None or before.shape is None or len(before.shape) != len(axes):
            return None  # axes were added on the way
    return None


def _shown(
    node: onnx.NodeProto,
    rank: int,
    opset: int,
    constants: set[str],
    makers: dict[str, onnx.NodeProto],
) -> int | None:
    """Return the axis that a node computes one output after the other along, if it is known to."""
    if node.op_type in _SOFTMAX:
        axis = int_attribute(node, "axis", -1 if opset >= _ONE_AXIS else 1) % rank
        return axis if opset >= _ONE_AXIS or axis == rank - 1 else None
    if node.op_type in _CHANNELS_SECOND:
        return 1
    if node.op_type not in _FEATURES_LAST:
        return None
    weight = node.input[3 if node.op_type == "QLinearMatMul" else 1]
    while weight in makers and makers[weight].op_type in (
        "DequantizeLinear",
        "Transpose",
        "Identity",
        "Cast",
    ):
        weight = makers[weight].input[0]
    return rank - 1 if weight in constants else None


def _before(node: onnx.NodeProto, axes: list[int]) -> list[int]:
    """Return which axis of the output each axis of the input of a Transpose becomes."""
    given = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
    perm = given[0] if given else list(range(len(axes)))[::-1]
    inverse = {source: place for place, source in enumerate(perm)}
    return [axes[inverse[place]] for place in range(len(axes))]


def _opset(model: onnx.ModelProto) -> int:
    return next(
        (int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0
    )
