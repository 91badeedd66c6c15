"""Stand-ins for com.microsoft operators.

Standard nodes with the same output types and shapes, so that ONNX shape inference gets past them.

They are used for inference alone and compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto, helper

from cimrobust.onnx_io.walk import int_attribute, op_name


class _Builder:
    """Makes the nodes that stand in for one node."""

    def __init__(self, node: onnx.NodeProto, initializers: Mapping[str, TensorProto]) -> None:
        self.node = node
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = initializers

    def input(self, index: int) -> str:
        return self.node.input[index] if index < len(self.node.input) else ""

    def type_of(self, index: int, default: int) -> int:
        """Return the element type of an input if it is an initializer."""
        tensor = self.initializers.get(self.input(index))
        return default if tensor is None else int(tensor.data_type)

    def add(
        self,
        op: str,
        inputs: list[str],
        *,
        last: bool = False,
        copy: tuple[str, ...] = (),
        **attributes: int | list[int],
    ) -> str:
        output = self.node.output[0] if last else f"{self.node.output[0]}//{len(self.nodes)}"
        node = helper.make_node(op, inputs, [output], name=f"{self.node.name}//{len(self.nodes)}")
        node.attribute.extend(
            helper.make_attribute(name, value) for name, value in attributes.items()
        )
        node.attribute.extend(
            attribute for attribute in self.node.attribute if attribute.name in copy
        )
        self.nodes.append(node)
        return output

    def cast(self, name: str, kind: int, *, last: bool = False) -> str:
        return self.add("Cast", [name], last=last, to=kind)

    def as_float(self, index: int) -> str:
        return self.cast(self.input(index), TensorProto.FLOAT)


def _same(builder: _Builder) -> None:
    """Output like the first input."""
    builder.add("Identity", [builder.input(0)], last=True)


def _broadcast(builder: _Builder) -> None:
    """QLinearAdd, QLinearMul (A, A_scale, A_zero, B, ...): A broadcast against B, type of A."""
    condition = builder.cast(builder.input(1), TensorProto.BOOL)
    builder.add("Where", [condition, builder.input(0), builder.input(3)], last=True)


def _concat(builder: _Builder) -> None:
    """QLinearConcat (Y_scale, Y_zero, then tensor, scale, zero of each)."""
    builder.add("Concat", list(builder.node.input)[2::3], last=True, copy=("axis",))


def _pool(op: str, *copy: str) -> Callable[[_Builder], None]:
    """Pooling or reduction of integers (X, X_scale, X_zero, Y_scale, Y_zero)."""

    def build(builder: _Builder) -> None:
        if int_attribute(builder.node, "channels_last", 0):
            raise LookupError
        pooled = builder.add(op, [builder.as_float(0)], copy=copy)
        builder.cast(pooled, builder.type_of(4, TensorProto.UINT8), last=True)

    return build


def _qgemm(builder: _Builder) -> None:
    product = builder.add(
        "Gemm", [builder.as_float(0), builder.as_float(3)], copy=("transA", "transB")
    )
    kind = builder.type_of(8, TensorProto.UINT8) if builder.input(7) else TensorProto.FLOAT
    builder.cast(product, kind, last=True)


def _float_matmul(builder: _Builder) -> None:
    builder.add("MatMul", [builder.as_float(0), builder.as_float(1)], last=True)


def _fused_matmul(builder: _Builder) -> None:
    if any(
        int_attribute(builder.node, name, 0) for name in ("transA", "transBatchA", "transBatchB")
    ):
        raise LookupError
    right = builder.input(1)
    if int_attribute(builder.node, "transB", 0):
        axes = list(
            range(len(builder.initializers[right].dims))
        )  # the rank of other tensors is not known here: KeyError, no stand-in
        right = builder.add("Transpose", [right], perm=[*axes[:-2], *reversed(axes[-2:])])
    builder.add("MatMul", [builder.input(0), right], last=True)


def _fused_gemm(builder: _Builder) -> None:
    builder.add("Gemm", list(builder.node.input)[:3], last=True, copy=("transA", "transB"))


def _fused_conv(builder: _Builder) -> None:
    copy = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    builder.add("Conv", list(builder.node.input)[:3], last=True, copy=copy)


def _quantise(builder: _Builder) -> None:
    builder.cast(builder.input(0), builder.type_of(2, TensorProto.UINT8), last=True)


def _dequantise(builder: _Builder) -> None:
    tensor = builder.initializers.get(builder.input(0))
    if (
        tensor is not None
    ):  # old operator sets cannot cast the short integers that com.microsoft has
        builder.add(
            "RandomUniform",
            [],
            last=True,
            shape=list(tensor.dims),
            dtype=builder.type_of(1, TensorProto.FLOAT),
        )
        return
    builder.cast(builder.input(0), builder.type_of(1, TensorProto.FLOAT), last=True)


_POOL_ATTRIBUTES = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

_STAND_INS: Mapping[str, Callable[[_Builder], None]] = {
    **dict.fromkeys(
        (
            "Gelu",
            "FastGelu",
            "QuickGelu",
            "BiasGelu",
            "QLinearLeakyRelu",
            "QLinearSigmoid",
            "QLinearSoftmax",
        ),
        _same,
    ),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _same),
    "QLinearAdd": _broadcast,
    "QLinearMul": _broadcast,
    "QLinearConcat": _concat,
    "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
    "QLinearAveragePool": _pool("AveragePool", *_POOL_ATTRIBUTES),
    "QGemm": _qgemm,
    "DynamicQuantizeMatMul": _float_matmul,
    "MatMulIntegerToFloat": _float_matmul,
    "FusedMatMul": _fused_matmul,
    "FusedGemm": _fused_gemm,
    "FusedConv": _fused_conv,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
}


def stand_in(node: onnx.NodeProto, initializers: Mapping[str, TensorProto]) -> list[onnx.NodeProto]:
    """Return standard nodes with the output shapes of a com.microsoft node.

    The node itself where there are none.

    Args:
        node: Any node.
        initializers: The initializers by name.
    """
    maker = _STAND_INS.get(node.op_type) if op_name(node).startswith("com.microsoft::") else None
    if maker is None:
        return [node]
    builder = _Builder(node, initializers)
    try:
        maker(builder)
    except LookupError:
        return [node]
    return builder.nodes
