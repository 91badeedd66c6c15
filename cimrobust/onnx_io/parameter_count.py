"""How many parameters a model file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import AttributeProto, TensorProto

from cimrobust.onnx_io.tensors import constant_value, num_elements
from cimrobust.onnx_io.walk import all_graphs

if TYPE_CHECKING:
    import onnx

#: What exporters keep shapes, axes and indices in.
_OF_SHAPES = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING})


def count_initialized(model: onnx.ModelProto) -> int:
    """Return the elements of initializers.

    Those of bodies too; those of the model's functions are counted where they are joined.
    """
    return sum(
        num_elements(tensor) for graph in all_graphs(model.graph) for tensor in graph.initializer
    )


def count_in_constants(model: onnx.ModelProto) -> int:
    """Return the elements of weights that Constant nodes hold, those of bodies too.

    A tensor counts if it has an axis and is not of a type that shapes and masks have.
    """
    return sum(
        _num_constant(attribute)
        for graph in all_graphs(model.graph)
        for node in graph.node
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx")
        for attribute in node.attribute
    )


def _num_constant(attribute: AttributeProto) -> int:
    if attribute.type == AttributeProto.TENSOR:
        is_weight = len(attribute.t.dims) > 0 and attribute.t.data_type not in _OF_SHAPES
        return num_elements(attribute.t) if is_weight else 0
    value = constant_value(attribute)
    return value.size if value is not None and value.ndim and value.dtype.kind == "f" else 0
