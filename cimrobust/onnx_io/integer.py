"""Integer layers rewritten to float layers between quantisers.

So a weight may take any value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.fold import Constants
from cimrobust.onnx_io.layouts import Slot
from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import NameMaker, int_attribute, op_name

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32, Int32, Shaped


@dataclass
class Rewriting:
    """What replaces one node.

    Attributes:
        node: The node replaced.
        slot: Input that holds the stored weight; the initializer holds dequantised floats by now.
        constants: Values of the file's constants.
        names: Maker of tensor names.
        opset: Version of the standard operator set.
        feeds_casts: Every reader of the node's output casts it to float.
        nodes: Nodes made so far.
        initializers: Initializers made so far.
    """

    node: onnx.NodeProto
    slot: Slot
    constants: Constants
    names: NameMaker
    opset: int
    feeds_casts: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def input(self, index: int) -> str:
        """Return the name of an input, ``""`` if it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def value(self, index: int) -> Shaped[np.ndarray, "..."] | None:
        """Return the constant value of an input, None if it is left out."""
        return self.constants.value(self.input(index)) if self.input(index) else None

    def add(
        self, op: str, inputs: list[str], suffix: str, output: str | None = None, **attributes: int
    ) -> str:
        """Add a node of the standard domain; return the name of its first output."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        output = output or self.names.take(f"{self.node.output[0]}.{suffix}")
        node = onnx.helper.make_node(op, inputs, [output], name=f"{self.node.name}.{suffix}")
        node.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in attributes.items()
        )
        self.nodes.append(node)
        return output

    def copy_attributes(self, *names: str) -> None:
        """Give the node added last the attributes of the node replaced that are in `names`."""
        self.nodes[-1].attribute.extend(
            attribute for attribute in self.node.attribute if attribute.name in names
        )

    def constant(self, values: Shaped[np.ndarray, "..."], suffix: str) -> str:
        """Add an initializer; return its name."""
        name = self.names.take(f"{self.node.output[0]}.{suffix}")
        self.initializers.append(encode(values, name))
        return name


_CONV_ATTRIBUTES = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def _qlinear_conv(job: Rewriting) -> None:
    data = job.add("DequantizeLinear", [job.input(0), job.input(1), job.input(2)], "input")
    bias = job.value(8)
    inputs = [data, job.input(3)]
    if bias is not None:
        inputs.append(job.constant(_float_bias(bias, job.value(1), job.value(4)), "bias"))
    product = job.add("Conv", inputs, "float")
    job.copy_attributes(*_CONV_ATTRIBUTES)
    job.add(
        "QuantizeLinear",
        [product, job.input(6), job.input(7)],
        "quantise",
        output=job.node.output[0],
    )


def _float_bias(
    bias: Int32[np.ndarray, "*shape"],
    input_scale: Float[np.ndarray, "..."] | None,
    weight_scale: Float[np.ndarray, "..."] | None,
    factor: float = 1.0,
) -> Float32[np.ndarray, "*shape"]:
    """Return an int32 bias in real units.

    Its scale is the product of the scales of input and weight.
    """
    assert input_scale is not None
    assert weight_scale is not None
    scale = (
        input_scale.astype(np.float64).reshape(())
        * weight_scale.astype(np.float64).reshape(-1)
        * factor
    )
    return np.asarray((bias.astype(np.float64) * scale).reshape(bias.shape), np.float32)


def _qlinear_matmul(job: Rewriting) -> None:
    first = 0 if job.slot.index == 3 else 3
    data = job.add(
        "DequantizeLinear", [job.input(first), job.input(first + 1), job.input(first + 2)], "input"
    )
    operands = [data, job.input(3)] if first == 0 else [job.input(0), data]
    product = job.add("MatMul", operands, "float")
    job.add(
        "QuantizeLinear",
        [product, job.input(6), job.input(7)],
        "quantise",
        output=job.node.output[0],
    )


def _qgemm(job: Rewriting) -> None:
    data = job.add("DequantizeLinear", [job.input(0), job.input(1), job.input(2)], "input")
    alpha = next(
        (attribute.f for attribute in job.node.attribute if attribute.name == "alpha"), 1.0
    )
    inputs, bias = [data, job.input(3)], job.value(6)
    if bias is not None:
        inputs.append(job.constant(_float_bias(bias, job.value(1), job.value(4), alpha), "bias"))
    is_float = not job.input(7)
    product = job.add("Gemm", inputs, "float", output=job.node.output[0] if is_float else None)
    job.copy_attributes("alpha", "transA", "transB")
    if not is_float:
        job.add(
            "QuantizeLinear",
            [product, job.input(7), job.input(8)],
            "quantise",
            output=job.node.output[0],
        )


def _integer_operand(job: Rewriting, index: int, zero_index: int) -> str:
    """Return the activation of an integer product as float with its zero point subtracted."""
    data = job.add("Cast", [job.input(index)], "input", to=TensorProto.FLOAT)
    if not job.input(zero_index):
        return data
    zero = job.add("Cast", [job.input(zero_index)], "zero", to=TensorProto.FLOAT)
    return job.add("Sub", [data, zero], "centred")


def _integer_result(job: Rewriting, op: str, operands: list[str], *attributes: str) -> None:
    """Add the float product; where integers are needed after it, round it."""
    if job.feeds_casts:
        job.add(op, operands, "float", output=job.node.output[0])
        job.copy_attributes(*attributes)
        return
    product = job.add(op, operands, "float")
    job.copy_attributes(*attributes)
    if job.opset >= 11:
        rounded = job.add("Round", [product], "round")
    else:
        half = job.constant(np.asarray(0.5, np.float32), "half")
        rounded = job.add("Floor", [job.add("Add", [product, half], "shift")], "round")
    job.add("Cast", [rounded], "integer", output=job.node.output[0], to=TensorProto.INT32)


def _conv_integer(job: Rewriting) -> None:
    _integer_result(job, "Conv", [_integer_operand(job, 0, 2), job.input(1)], *_CONV_ATTRIBUTES)


def _matmul_integer(job: Rewriting) -> None:
    is_right = job.slot.index == 1
    data = _integer_operand(job, 0, 2) if is_right else _integer_operand(job, 1, 3)
    _integer_result(job, "MatMul", [data, job.input(1)] if is_right else [job.input(0), data])


def _dynamic_quantize_matmul(job: Rewriting) -> None:
    parts = [job.names.take(f"{job.node.output[0]}.{part}") for part in ("levels", "scale", "zero")]
    job.nodes.append(
        onnx.helper.make_node(
            "DynamicQuantizeLinear", [job.input(0)], parts, name=f"{job.node.name}.dynamic"
        )
    )
    _float_matmul(job, job.add("DequantizeLinear", parts, "input"), job.input(4))


def _matmul_integer_to_float(job: Rewriting) -> None:
    _float_matmul(
        job,
        job.add("DequantizeLinear", [job.input(0), job.input(2), job.input(4)], "input"),
        job.input(6),
    )


def _float_matmul(job: Rewriting, data: str, bias: str) -> None:
    product = job.add(
        "MatMul", [data, job.input(1)], "float", output=None if bias else job.node.output[0]
    )
    if bias:
        job.add("Add", [product, bias], "bias", output=job.node.output[0])


#: What each quantised operator becomes.
REWRITERS: Mapping[str, Callable[[Rewriting], None]] = {
    "QLinearConv": _qlinear_conv,
    "com.microsoft::QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "com.microsoft::QGemm": _qgemm,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "com.microsoft::DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "com.microsoft::MatMulIntegerToFloat": _matmul_integer_to_float,
}


def is_integer_layer(node: onnx.NodeProto) -> bool:
    """Return whether a node multiplies integers and must be rewritten."""
    return op_name(node) in REWRITERS


def rewrite(job: Rewriting) -> None:
    """Fill a job with the nodes and initializers that replace its node."""
    REWRITERS[op_name(job.node)](job)


def casts_to_float(node: onnx.NodeProto) -> bool:
    """Return whether a node casts to float32."""
    return node.op_type == "Cast" and int_attribute(node, "to", 0) == TensorProto.FLOAT
