from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cimrobust.twin.to_torch import to_torch

RNG = np.random.default_rng(11)
X = (RNG.normal(size=(2, 4, 6, 6)) * 3).astype(np.float32)


def f(value):
    return np.asarray(value, np.float32)


ZEROS = [np.uint8(3), np.uint8(128), np.int8(-5), np.uint16(1000), np.int16(-7), None]
# 16 bit is new in opset 21.
TENSORS = [
    (zero, opset)
    for zero in ZEROS
    for opset in (10, 13, 19, 21, 23)
    if zero is None or zero.dtype.itemsize == 1 or opset >= 21
]


@pytest.mark.parametrize(("zero", "opset"), TENSORS)
def test_quantize_per_tensor(check, zero, opset):
    constants = {"s": f(0.043)} | ({} if zero is None else {"z": np.asarray(zero)})
    check("QuantizeLinear", {"x": X}, opset=opset, constants=constants)


@pytest.mark.parametrize("opset", [13, 19, 21])
@pytest.mark.parametrize("axis", [1, -1])
def test_quantize_per_axis(check, opset, axis):
    size = X.shape[axis]
    constants = {
        "s": np.linspace(0.01, 0.1, size).astype(np.float32),
        "z": np.arange(size).astype(np.int8),
    }
    check("QuantizeLinear", {"x": X}, opset=opset, constants=constants, axis=axis)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("axis", [None, 1])
def test_dequantize(check, kind, axis):
    x = RNG.integers(0, 100, (2, 4, 3)).astype(kind)
    scale = f(0.1) if axis is None else np.linspace(0.1, 0.4, 4).astype(np.float32)
    constants = {"s": scale} | ({} if kind == np.int32 else {"z": np.full(scale.shape, 7, kind)})
    check("DequantizeLinear", {"x": x}, opset=13, constants=constants, axis=axis)


def test_blocks(check):
    constants = {
        "s": np.linspace(0.1, 0.4, 2 * 2 * 6).astype(np.float32).reshape(2, 2, 6),
        "z": np.ones((2, 2, 6), np.uint8),
    }
    check("QuantizeLinear", {"x": X[:, :, 0]}, opset=21, constants=constants, axis=1, block_size=2)


@pytest.mark.parametrize("kind", ["INT4", "UINT4"])
def test_four_bits(check_model, kind):
    to = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, X.shape)],
        [numpy_helper.from_array(f(0.7), "s"), helper.make_tensor("z", to, [], [2])],
    )
    check_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10),
        {"x": X},
    )


def test_dynamic_quantize(check):
    check("DynamicQuantizeLinear", {"x": X}, opset=11, outputs=["y", "s", "z"])
    check("DynamicQuantizeLinear", {"x": abs(X)}, opset=11, outputs=["y", "s", "z"])


def levels(shape, kind=np.uint8):
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max, shape, endpoint=True).astype(kind)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "how", [{"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "pads": [0, 1, 1, 0]}, {"group": 2}]
)
def test_qlinear_conv(check, per_channel, kind, how):
    # One level: onnxruntime rounds the product of the scales in another order.
    group = how.get("group", 1)
    scale = np.linspace(0.01, 0.03, 4).astype(np.float32) if per_channel else f(0.02)
    constants = {
        "xs": f(0.05),
        "xz": np.asarray(kind(3)),
        "w": levels((4, 4 // group, 3, 3), np.int8),
        "ws": scale,
        "wz": np.zeros(scale.shape, np.int8),
        "ys": f(0.3),
        "yz": np.asarray(kind(100)),
        "b": RNG.integers(-2000, 2000, 4).astype(np.int32),
    }
    check(
        "QLinearConv",
        {"x": levels((2, 4, 7, 7), kind)},
        opset=10,
        constants=constants,
        levels=1,
        **how,
    )


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_qlinear_matmul(check, kind):
    constants = {
        "as": f(0.05),
        "az": np.asarray(kind(3)),
        "b": levels((4, 5), kind),
        "bs": f(0.02),
        "bz": np.asarray(kind(1)),
        "ys": f(0.1),
        "yz": np.asarray(kind(9)),
    }
    check("QLinearMatMul", {"a": levels((3, 4), kind)}, opset=10, constants=constants, levels=1)


def test_integer_products(check):
    zeros = {"az": np.uint8(7), "bz": np.int8(-3)}
    check(
        "MatMulInteger",
        {"a": levels((3, 4))},
        opset=10,
        constants={"b": levels((4, 5), np.int8), **{k: np.asarray(v) for k, v in zeros.items()}},
    )
    check(
        "ConvInteger",
        {"a": levels((1, 3, 6, 6))},
        opset=10,
        constants={"b": levels((4, 3, 3, 3)), "az": np.asarray(np.uint8(7))},
        pads=[1, 1, 1, 1],
    )


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_microsoft_binary(check, op, kind):
    constants = {
        "as": f(0.05),
        "az": np.asarray(kind(3)),
        "b": levels((4, 1, 6), kind),
        "bs": f(0.02),
        "bz": np.asarray(kind(1)),
        "ys": f(0.06),
        "yz": np.asarray(kind(9)),
    }
    order = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    check(
        op,
        {"a": levels((2, 4, 6, 6), kind)},
        opset=13,
        domain="com.microsoft",
        constants=constants,
        order=order,
        levels=1,
    )


UNARY = [
    ("QLinearSigmoid", {}),
    ("QLinearLeakyRelu", {"alpha": 0.2}),
    ("QLinearGlobalAveragePool", {}),
    ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("QLinearSoftmax", {"axis": -1, "opset": 13}),
]


@pytest.mark.parametrize(("op", "attributes"), UNARY)
def test_microsoft_unary(check_model, op, attributes):
    scale = 1 / 256 if op in ("QLinearSigmoid", "QLinearSoftmax") else 0.05
    constants = {
        "xs": f(0.05),
        "xz": np.asarray(np.uint8(3)),
        "ys": f(scale),
        "yz": np.asarray(np.uint8(0)),
    }
    x = levels((2, 4, 6, 6))
    node = helper.make_node(op, ["x", *constants], ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 2, x.shape)],
        [helper.make_tensor_value_info("y", 2, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    check_model(helper.make_model(graph, opset_imports=imports, ir_version=8), {"x": x}, levels=1)


@pytest.mark.parametrize("floats_out", [False, True])
def test_microsoft_q_gemm(check, floats_out):
    constants = {
        "as": f(0.05),
        "az": np.asarray(np.uint8(3)),
        "b": levels((5, 4), np.int8),
        "bs": np.linspace(0.01, 0.02, 5).astype(np.float32),
        "bz": np.zeros(5, np.int8),
        "c": RNG.integers(-500, 500, 5).astype(np.int32),
    }
    if not floats_out:
        constants |= {"ys": f(0.1), "yz": np.asarray(np.uint8(9))}
    check(
        "QGemm",
        {"a": levels((3, 4))},
        opset=13,
        domain="com.microsoft",
        constants=constants,
        order=["a", *constants],
        transB=1,
        levels=1,
    )


def test_microsoft_concat(check):
    constants = {
        "ys": f(0.1),
        "yz": np.asarray(np.uint8(9)),
        "as": f(0.05),
        "az": np.asarray(np.uint8(3)),
        "bs": f(0.2),
        "bz": np.asarray(np.uint8(1)),
    }
    order = ["ys", "yz", "a", "as", "az", "b", "bs", "bz"]
    check(
        "QLinearConcat",
        {"a": levels((2, 3)), "b": levels((2, 4))},
        opset=13,
        domain="com.microsoft",
        constants=constants,
        order=order,
        axis=1,
        levels=1,
    )


def test_gradient_passes_straight_through_and_leaks_outside():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [3])],
        [helper.make_tensor_value_info("y", 1, [3])],
        [
            numpy_helper.from_array(f(0.5), "s"),
            numpy_helper.from_array(np.asarray(np.int8(0)), "z"),
        ],
    )
    twin = to_torch(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    x = torch.tensor([0.3, 100.0, -100.0], requires_grad=True)
    y = twin({"x": x})["y"]
    y.sum().backward()
    assert y.tolist() == [0.5, 63.5, -64.0]
    torch.testing.assert_close(x.grad, torch.tensor([1.0, 0.1, 0.1]))


@pytest.mark.parametrize("op", ["Round", "Floor", "Ceil", "Sign"])
def test_surrogate_gradient_is_off_unless_asked_for(op):
    node = helper.make_node(op, ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )
    twin = to_torch(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    x = torch.tensor([0.3, 0.7], requires_grad=True)
    assert torch.autograd.grad(twin({"x": x})["y"].sum(), x)[0].tolist() == [0, 0]
    hard = twin({"x": x})["y"].tolist()
    twin.straight_through = True
    y = twin({"x": x})["y"]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1, 1]
    assert y.tolist() == hard
