"""Exact arithmetic of quantised networks for tests, and networks quantised in every form that
onnxruntime writes.

Integers are whole numbers below 2^53; what is made of them by one scale is float64, off by 2^-53
only. What the file itself computes in float32 between integers (its inputs,
ReduceMean) is float32: a mean of 8 levels is half way between two in one case of eight, and float32
decides which. Nothing here is shared with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

CLASSES = 6
RANGES = {np.dtype(np.uint8): (0, 255), np.dtype(np.int8): (-128, 127)}


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of a network in exact arithmetic."""
    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    values |= {"": None, **feeds}
    for node in model.graph.node:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        made = OPERATORS[node.op_type]([values[name] for name in node.input], attributes)
        values |= dict(zip(node.output, made if isinstance(made, tuple) else (made,), strict=False))
    return [values[output.name] for output in model.graph.output]


def centred(x: np.ndarray, zero: np.ndarray | None, axis: int = 0) -> np.ndarray:
    whole = x.astype(np.int64)
    if zero is None:
        return whole
    zero = np.asarray(zero).astype(np.int64)
    return whole - (
        zero
        if zero.ndim == 0 or zero.size == 1
        else zero.reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    )


def levels(real: np.ndarray, zero: np.ndarray) -> np.ndarray:
    low, high = RANGES[np.asarray(zero).dtype]
    return np.clip(np.rint(real) + int(np.asarray(zero).reshape(-1)[0]), low, high).astype(
        np.asarray(zero).dtype
    )


def along(value: np.ndarray, rank: int, axis: int) -> np.ndarray:
    value = np.asarray(value, np.float64)
    return (
        value if value.size == 1 else value.reshape([-1 if at == axis else 1 for at in range(rank)])
    )


def convolve(x: np.ndarray, w: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Convolve in two dimensions, as sums over kernel elements; of integers exactly, in float64,
    where all sums are below 2^53.
    """
    is_whole = x.dtype.kind in "iu"
    if is_whole:
        assert float(np.abs(x).max(initial=0)) * float(np.abs(w).max(initial=0)) * w[0].size < 2**53
    x, w = x.astype(np.float64), w.astype(np.float64)
    (top, left, bottom, right), (down, across) = (
        attributes.get("pads", [0] * 4),
        attributes.get("strides", [1, 1]),
    )
    groups = attributes.get("group", 1)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows, columns = (x.shape[2] - w.shape[2]) // down + 1, (x.shape[3] - w.shape[3]) // across + 1
    parts = []
    for part, kernels in zip(np.split(x, groups, 1), np.split(w, groups, 0), strict=True):
        total = np.zeros((len(x), len(kernels), rows, columns), x.dtype)
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                seen = part[:, :, i : i + down * rows : down, j : j + across * columns : across]
                total += np.moveaxis(
                    np.tensordot(seen, kernels[:, :, i, j], axes=([1], [1])), -1, 1
                )
        parts.append(total)
    made = np.concatenate(parts, 1)
    return made.astype(np.int64) if is_whole else made


def qlinear_conv(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = given
    last = attributes.get("channels_last", 0)
    total = convolve(
        centred(np.moveaxis(x, -1, 1) if last else x, x_zero), centred(w, w_zero), attributes
    )
    if bias and bias[0] is not None:
        total = total + bias[0].astype(np.int64).reshape(1, -1, 1, 1)
    made = levels(total * (float(x_scale) * along(w_scale, 4, 1) / float(y_scale)), y_zero)
    return np.moveaxis(made, 1, -1) if last else made


def qlinear_matmul(given: list[Any], _: Mapping[str, Any]) -> np.ndarray:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    total = centred(a, a_zero) @ centred(b, b_zero, b.ndim - 1)
    return levels(
        total
        * (
            float(np.squeeze(a_scale))
            * np.asarray(b_scale, np.float64)
            / float(np.squeeze(y_scale))
        ),
        y_zero,
    )


def qlinear_add(given: list[Any], _: Mapping[str, Any]) -> np.ndarray:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = given
    real = centred(a, a_zero) * float(a_scale) + centred(b, b_zero) * float(b_scale)
    low, high = RANGES[np.asarray(y_zero).dtype]
    # The operator of onnxruntime rounds with the zero point added.
    return np.clip(np.rint(real / float(y_scale) + int(y_zero)), low, high).astype(
        np.asarray(y_zero).dtype
    )


def qgemm(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = [
        *given,
        *[None] * (9 - len(given)),
    ]
    right = centred(b, b_zero, 0 if attributes.get("transB") else 1)
    total = centred(a, a_zero) @ (right.T if attributes.get("transB") else right)
    total = total if c is None else total + c.astype(np.int64)
    real = total * (attributes.get("alpha", 1.0) * float(a_scale) * np.asarray(b_scale, np.float64))
    return real if y_scale is None else levels(real / float(y_scale), y_zero)


def quantise(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    x, scale, zero = [*given, np.zeros((), np.uint8)][:3]
    axis = attributes.get("axis", 1) % max(np.ndim(x), 1)
    low, high = RANGES[zero.dtype]
    shift = along(zero, np.ndim(x), axis)
    step = along(scale, np.ndim(x), axis)
    quotient = x / step.astype(np.float32) if x.dtype == np.float32 else x / step
    return np.clip(np.rint(quotient) + shift, low, high).astype(zero.dtype)


def dequantise(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    x, scale, zero = [*given, None][:3]
    axis = attributes.get("axis", 1) % max(np.ndim(x), 1)
    return centred(x, zero, axis) * along(scale, np.ndim(x), axis)


def dynamic(given: list[Any], _: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    x = np.asarray(given[0], np.float64)
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = (high - low) / 255.0
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), np.float64(scale), zero


def dynamic_matmul(given: list[Any], _: Mapping[str, Any]) -> np.ndarray:
    a, b, b_scale, b_zero, bias = [*given, None, None][:5]
    quantised, scale, zero = dynamic([a], {})
    made = (centred(quantised, zero) @ centred(b, b_zero, 1)) * (
        scale * np.asarray(b_scale, np.float64)
    )
    return made if bias is None else made + bias


def matmul_to_float(given: list[Any], _: Mapping[str, Any]) -> np.ndarray:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = [*given, None, None, None][:7]
    made = (centred(a, a_zero) @ centred(b, b_zero, 1)) * (
        np.asarray(a_scale, np.float64) * np.asarray(b_scale, np.float64)
    )
    return made if bias is None else made + bias


def integer_matmul(given: list[Any], _: Mapping[str, Any]) -> np.ndarray:
    a, b, a_zero, b_zero = [*given, None, None][:4]
    return centred(a, a_zero) @ centred(b, b_zero, 1)


def integer_conv(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    x, w, x_zero, w_zero = [*given, None, None][:4]
    return convolve(centred(x, x_zero), centred(w, w_zero), attributes)


def conv(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    x, w, bias = [*given, None][:3]
    made = convolve(np.asarray(x, np.float64), np.asarray(w, np.float64), attributes)
    return made if bias is None else made + np.asarray(bias, np.float64).reshape(1, -1, 1, 1)


def gemm(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    a, b, c = [*given, None][:3]
    made = np.asarray(a, np.float64) @ (b.T if attributes.get("transB") else b)
    return made if c is None else made + c


def max_pool(given: list[Any], attributes: Mapping[str, Any], at: int = 2) -> np.ndarray:
    x, (size, _) = given[0], attributes["kernel_shape"]
    shape = (
        *x.shape[:at],
        x.shape[at] // size,
        size,
        x.shape[at + 1] // size,
        size,
        *x.shape[at + 2 :],
    )
    return x.reshape(shape).max((at + 1, at + 3))


def cast(given: list[Any], attributes: Mapping[str, Any]) -> np.ndarray:
    return (
        np.asarray(given[0], np.float64)
        if attributes["to"] == TensorProto.FLOAT
        else np.asarray(given[0]).astype(np.int64)
    )


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Add": lambda given, _: given[0] + given[1],
    "Cast": cast,
    "Conv": conv,
    "ConvInteger": integer_conv,
    "DequantizeLinear": dequantise,
    "DynamicQuantizeLinear": dynamic,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "Flatten": lambda given, _: given[0].reshape(len(given[0]), -1),
    "Gemm": gemm,
    "MatMul": lambda given, _: np.asarray(given[0], np.float64) @ given[1],
    "MatMulInteger": integer_matmul,
    "MatMulIntegerToFloat": matmul_to_float,
    "MaxPool": max_pool,
    "Mul": lambda given, _: given[0] * np.asarray(given[1], np.float64),
    "NhwcMaxPool": lambda given, attributes: max_pool(given, attributes, 1),
    "QGemm": qgemm,
    "QLinearAdd": qlinear_add,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantise,
    "ReduceMean": (
        lambda given, attributes: np.float32(given[0]).mean(
            tuple(attributes["axes"]), keepdims=bool(attributes.get("keepdims", 1))
        )
    ),
    "Relu": lambda given, _: np.maximum(given[0], 0),
    "Reshape": (
        lambda given, _: given[0].reshape(
            [given[0].shape[at] if size == 0 else size for at, size in enumerate(given[1])]
        )
    ),
    "Squeeze": lambda given, _: np.squeeze(given[0]),
    "Transpose": lambda given, attributes: given[0].transpose(attributes["perm"]),
}


def float_model(opset: int = 13, *, groups: int = 1, matmul: bool = False) -> onnx.ModelProto:
    """Return a small convolutional network whose weights are mostly near their largest magnitude,
    so that u8 x s8 pairs saturate.
    """
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        signs = np.where(rng.random(shape) < 0.62, 1.0, -1.0)
        return (signs * (1.0 - 0.2 * rng.random(shape)) / np.sqrt(np.prod(shape[1:]))).astype(
            np.float32
        )

    stored = {
        "w1": weights(8, 3, 3, 3),
        "w2": weights(16, 8 // groups, 3, 3),
        "w3": weights(CLASSES, 16 * 16),
    }
    stored |= {
        "b1": -rng.random(8).astype(np.float32),
        "b2": -rng.random(16).astype(np.float32),
        "b3": np.zeros(CLASSES, np.float32),
    }
    if matmul:
        stored["w3"] = np.ascontiguousarray(stored["w3"].T)
    head = (
        [helper.make_node("MatMul", ["flat", "w3"], ["y"])]
        if matmul
        else [helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], transB=1)]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1] * 4, group=groups),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["flat"]),
        *head,
    ]
    graph = helper.make_graph(
        nodes,
        "large_weights",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def samples(count: int) -> np.ndarray:
    """Return bright inputs: activations near the top of their range."""
    rng = np.random.default_rng(7)
    return (0.35 + 0.65 * rng.random((count, 3, 8, 8))).astype(np.float32)


class _Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self._left = iter([{"x": samples(64)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


U8, S8 = QuantType.QUInt8, QuantType.QInt8
#: Name: form, type of activations, type of weights, per channel, what the float network is.
STATIC: Mapping[str, tuple[QuantFormat, QuantType, QuantType, bool, dict[str, Any]]] = {
    "QDQ u8 s8": (QuantFormat.QDQ, U8, S8, False, {}),
    "QDQ u8 s8 per channel": (QuantFormat.QDQ, U8, S8, True, {}),
    "QDQ s8 s8": (QuantFormat.QDQ, S8, S8, False, {}),
    "QDQ s8 s8 per channel, MatMul": (QuantFormat.QDQ, S8, S8, True, {"matmul": True}),
    "QDQ u8 u8": (QuantFormat.QDQ, U8, U8, False, {}),
    "QDQ u8 s8, opset 21": (QuantFormat.QDQ, U8, S8, True, {"opset": 21}),
    "QOperator u8 s8": (QuantFormat.QOperator, U8, S8, False, {}),
    "QOperator u8 s8 per channel": (QuantFormat.QOperator, U8, S8, True, {}),
    "QOperator u8 s8, MatMul": (QuantFormat.QOperator, U8, S8, False, {"matmul": True}),
    "QOperator u8 s8, MatMul, opset 21": (
        QuantFormat.QOperator,
        U8,
        S8,
        False,
        {"matmul": True, "opset": 21},
    ),
    "QOperator s8 s8": (QuantFormat.QOperator, S8, S8, False, {}),
    "QOperator s8 s8, MatMul": (QuantFormat.QOperator, S8, S8, False, {"matmul": True}),
    "QOperator u8 u8": (QuantFormat.QOperator, U8, U8, False, {}),
    "QOperator u8 s8, grouped": (QuantFormat.QOperator, U8, S8, True, {"groups": 8}),
}
#: Name: type of weights, per channel, what the float network is.
DYNAMIC: Mapping[str, tuple[QuantType, bool, dict[str, Any]]] = {
    "dynamic s8": (S8, False, {"matmul": True}),
    "dynamic s8 per channel": (S8, True, {"matmul": True}),
    "dynamic u8": (U8, False, {"matmul": True}),
}
#: Forms that onnxruntime saves after its own optimisation: layers with their channels last, and
#: fused products.
OPTIMISED = ("QDQ u8 s8", "QOperator u8 s8 per channel", "QOperator s8 s8", "dynamic s8")
FORMS = (*STATIC, *DYNAMIC, *(f"{name}, optimised" for name in OPTIMISED))


def quantised(form: str, folder: Path) -> Path:
    """Write the network quantised in one of the forms; return its path."""
    name, optimised = form.removesuffix(", optimised"), form.endswith(", optimised")
    source, made = folder / "float.onnx", folder / "quantised.onnx"
    if name in STATIC:
        kind, activation, weight, per_channel, options = STATIC[name]
        onnx.save(float_model(**options), source)
        quantize_static(
            source,
            made,
            _Reader(),
            quant_format=kind,
            activation_type=activation,
            weight_type=weight,
            per_channel=per_channel,
            reduce_range=False,
        )
    else:
        weight, per_channel, options = DYNAMIC[name]
        onnx.save(float_model(**options), source)
        quantize_dynamic(
            source, made, weight_type=weight, per_channel=per_channel, reduce_range=False
        )
    if optimised:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        options.log_severity_level = 4
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            level.ORT_ENABLE_EXTENDED if name in DYNAMIC else level.ORT_ENABLE_ALL
        )
        onnxruntime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
        made = folder / "optimised.onnx"
    return made
