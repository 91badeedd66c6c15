"""A network with inner tensors among its outputs.

What a runtime computed can then be checked operator by operator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.large_models import require_one_message, tensor_bytes
from cimrobust.onnx_io.shapes import TensorType, infer_types
from cimrobust.onnx_io.tensors import TWO_BIT_TYPES, element_bits
from cimrobust.onnx_io.unsigned import exact_products
from cimrobust.onnx_io.views import FLOAT8_TYPES
from cimrobust.onnx_io.walk import op_name, read_names

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

#: Operators whose output is levels, or sums of products of levels, computed in integers.
LEVEL_OPS = frozenset(
    {
        *(
            "QuantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
        ),
        *(
            f"com.microsoft::{op}"
            for op in (
                "QuantizeLinear",
                "QGemm",
                "QLinearConv",
                "QLinearAdd",
                "QLinearMul",
                "QLinearConcat",
            )
        ),
        *(
            f"com.microsoft::{op}"
            for op in ("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearReduceMean")
        ),
        *(
            f"com.microsoft::{op}"
            for op in ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearWhere")
        ),
    }
)
_DEQUANTISERS = frozenset({"DequantizeLinear", "com.microsoft::DequantizeLinear"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
#: Types that onnxruntime gives as bytes, or not at all.
_NOT_GIVEN = FLOAT8_TYPES | {
    *TWO_BIT_TYPES,
    TensorProto.INT4,
    TensorProto.UINT4,
    TensorProto.FLOAT4E2M1,
}
_FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)


def cut_tensors(model: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Return the inner tensors that can be outputs with onnxruntime's computation unchanged.

    The wanted output is last.

    Those are all levels of whole bytes, and all float tensors that are not between a
    DequantizeLinear of activations and the next quantiser: operators there are fused to integer
    ones, and would not be if somebody else read what is inside.
    """
    types = infer_types(model, strict=False)
    inside: set[str] = set()
    stored = {tensor.name for tensor in model.graph.initializer}
    found: list[str] = []
    for node in model.graph.node:
        name, outputs = op_name(node), [made for made in node.output if made]
        if read_names(node) <= stored:
            stored |= set(outputs)
        elif name in LEVEL_OPS and all(_is_whole(types.get(made)) for made in outputs):
            found += outputs
        elif name in LEVEL_OPS or name in _DEQUANTISERS or inside & read_names(node):
            inside |= set(outputs)
        else:
            found += [
                made for made in outputs if made in types and types[made].elem_type in _FLOATS
            ]
    return (*(name for name in found if name != output), output)


def _is_whole(kind: TensorType | None) -> bool:
    """Return whether onnxruntime gives a tensor element by element, as numbers."""
    return kind is None or kind.elem_type not in _NOT_GIVEN


def as_declared(
    model: onnx.ModelProto, given: Mapping[str, Shaped[np.ndarray, "..."]]
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return inner tensors as the model declares them.

    The exact form has unsigned levels in place of signed ones.
    """
    types = infer_types(model, strict=False)
    signed = {name for name, kind in types.items() if kind.elem_type == TensorProto.INT8}
    return {
        name: (
            (array.astype(np.int16) - 128).astype(np.int8)
            if name in signed and array.dtype == np.uint8
            else array
        )
        for name, array in given.items()
    }


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> bytes:
    """Return a model that gives these tensors beside its own outputs.

    Integer products are in exact form.
    """
    require_one_message(
        tensor_bytes(model),
        what="a network whose inner tensors are looked at",
        where="exact arithmetic",
        hint="use a smaller network",
    )
    exact = exact_products(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model if exact is None else exact)
    given = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    return bytes(copy.SerializeToString())


def work_of(model: onnx.ModelProto, samples: int) -> tuple[int, int]:
    """Return roughly how many products a run of a network takes, and its inner tensors' bytes.

    Symbols count as `samples`.
    """
    types = infer_types(model, strict=False)
    products = sum(_products(node, types, samples) for node in model.graph.node)
    stored = {tensor.name for tensor in model.graph.initializer}
    size = sum(
        _count(kind, samples) * element_bits(kind.elem_type) // 8
        for name, kind in types.items()
        if name not in stored
    )
    return products, size


def _count(kind: TensorType | None, samples: int) -> int:
    return (
        1
        if kind is None
        else math.prod(dim if isinstance(dim, int) else samples for dim in kind.shape or ())
    )


def _products(node: onnx.NodeProto, types: dict[str, TensorType], samples: int) -> int:
    """Return an upper estimate of one node's products, 0 for operators that are no products."""
    name = node.op_type
    if not any(
        mark in name
        for mark in ("Conv", "MatMul", "Gemm", "Attention", "LSTM", "GRU", "RNN", "Einsum")
    ):
        return 0
    index = 3 if name.startswith(("QLinear", "QGemm")) else 1
    weight = types.get(node.input[index]) if index < len(node.input) else None
    shape = weight.static_shape if weight is not None else None
    result = _count(types.get(node.output[0]), samples)
    if shape is None or not shape:
        return result
    if name in _PRODUCTS:
        return result * math.prod(shape[1:])
    return result * (shape[-2] if len(shape) > 1 else shape[0])
