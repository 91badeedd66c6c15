"""Integer products are exact in onnxruntime whatever the processor: every operator, every pair of
types, constant and computed operands.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.engine.sessions import open_session
from cimrobust.onnx_io.unsigned import exact_file, exact_products
from tests.exact_integers import OPERATORS

# Scales are powers of two throughout, so that float32 rounds nothing and half way cases are the
# same in all arithmetic.
KINDS = {
    "u8": (np.uint8, TensorProto.UINT8, 0, 255, 128),
    "s8": (np.int8, TensorProto.INT8, -128, 127, 0),
}
MS = "com.microsoft"
Arrays = dict[str, np.ndarray]


def extreme(kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return levels that are mostly at the ends of their range, so that pairs of products leave 16
    bits.
    """
    dtype, _, low, high, _ = KINDS[kind]
    rng = np.random.default_rng(seed)
    ends = np.where(rng.random(shape) < 0.8, high, low)
    return np.where(rng.random(shape) < 0.7, ends, rng.integers(low, high + 1, shape)).astype(dtype)


def scalar(kind: str, value: int | None = None) -> np.ndarray:
    return np.array(KINDS[kind][4] if value is None else value, KINDS[kind][0])


def model_of(
    node: onnx.NodeProto, stored: Arrays, fed: Arrays, output: int, opset: int = 13
) -> onnx.ModelProto:
    def info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )

    graph = helper.make_graph(
        [node],
        "one",
        [info(name, array) for name, array in fed.items()],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def check(
    node: onnx.NodeProto,
    stored: Arrays,
    fed: Arrays,
    output: int,
    *,
    opset: int = 13,
    rtol: float = 0.0,
) -> None:
    """Compare the product's session with exact arithmetic, optimised and not."""
    model = model_of(node, stored, fed, output, opset)
    values = {"": None, **stored, **fed}
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    expected = OPERATORS[node.op_type]([values[name] for name in node.input], attributes)
    content = exact_file(model.SerializeToString(), Path()) or model.SerializeToString()
    np.testing.assert_allclose(
        open_session(content).run(None, fed)[0].astype(np.float64), expected, rtol=rtol, atol=0
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        plain.run(None, fed)[0].astype(np.float64), expected, rtol=rtol, atol=0
    )


def split(named: Arrays, *fed: str) -> tuple[Arrays, Arrays]:
    return {name: array for name, array in named.items() if name not in fed}, {
        name: named[name] for name in fed
    }


PAIRS = list(itertools.product(KINDS, KINDS))


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_matmul_integer(a: str, b: str, is_constant: bool) -> None:
    named = {
        "a": extreme(a, (8, 64), 0),
        "b": extreme(b, (64, 8), 1),
        "za": scalar(a, 3),
        "zb": scalar(b),
    }
    node = helper.make_node("MatMulInteger", ["a", "b", "za", "zb"], ["y"])
    check(node, *split(named, *(("a",) if is_constant else ("a", "b"))), TensorProto.INT32)


def test_a_product_without_zero_points() -> None:
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    check(
        node,
        *split({"a": extreme("u8", (8, 64), 0), "b": extreme("s8", (64, 8), 1)}, "a"),
        TensorProto.INT32,
    )


@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_conv_integer(a: str, b: str, groups: int) -> None:
    named = {
        "x": extreme(a, (2, 16, 7, 7), 0),
        "w": extreme(b, (16, 16 // groups, 3, 3), 1),
        "zx": scalar(a, 3),
        "zw": scalar(b),
    }
    node = helper.make_node(
        "ConvInteger", ["x", "w", "zx", "zw"], ["y"], group=groups, pads=[1] * 4
    )
    if groups == 1 or (a, b) != ("s8", "u8"):
        check_conv(node, named)


def check_conv(node: onnx.NodeProto, named: Arrays) -> None:
    """As `check`, with padding by the zero point."""
    model = model_of(node, *split(named, "x"), TensorProto.INT32)
    content = exact_file(model.SerializeToString(), Path()) or model.SerializeToString()
    expected = OPERATORS["ConvInteger"](
        list(named.values()),
        {item.name: helper.get_attribute_value(item) for item in node.attribute},
    )
    np.testing.assert_array_equal(open_session(content).run(None, {"x": named["x"]})[0], expected)


@pytest.mark.parametrize(
    ("opset", "is_constant"), [(13, True), (13, False), (21, True), (21, False)]
)
@pytest.mark.parametrize(("a", "b"), [("u8", "u8"), ("u8", "s8"), ("s8", "s8")])
def test_qlinear_matmul(a: str, b: str, opset: int, is_constant: bool) -> None:
    named = {
        "a": extreme(a, (8, 64), 0),
        "sa": np.float32(2**-6),
        "za": scalar(a, 3),
        "b": extreme(b, (64, 8), 1),
    }
    named |= {"sb": np.float32(2**-7), "zb": scalar(b), "sy": np.float32(4.0), "zy": scalar(a)}
    node = helper.make_node("QLinearMatMul", list(named), ["y"])
    stored, fed = split(
        {name: np.asarray(array) for name, array in named.items()},
        *(("a",) if is_constant else ("a", "b")),
    )
    check(node, stored, fed, KINDS[a][1], opset=opset)


@pytest.mark.parametrize(("domain", "last"), [("", 0), (MS, 0), (MS, 1)])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize(("a", "b"), [("u8", "u8"), ("u8", "s8"), ("s8", "s8")])
def test_qlinear_conv(
    a: str, b: str, groups: int, per_channel: bool, domain: str, last: int
) -> None:
    x, count = extreme(a, (2, 16, 7, 7), 0), 16
    scale = (
        (2.0 ** -(6 + np.arange(count) % 3)).astype(np.float32)
        if per_channel
        else np.float32(2**-7)
    )
    zero = np.full(count, KINDS[b][4], KINDS[b][0]) if per_channel else scalar(b)
    named = {
        "x": np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x,
        "sx": np.float32(2**-6),
        "zx": scalar(a, 3),
    }
    named |= {
        "w": extreme(b, (count, 16 // groups, 3, 3), 1),
        "sw": scale,
        "zw": zero,
        "sy": np.float32(4.0),
        "zy": scalar(a),
    }
    attributes = {
        "group": groups,
        "pads": [1] * 4,
        "kernel_shape": [3, 3],
        **({"channels_last": 1} if last else {}),
    }
    node = helper.make_node("QLinearConv", list(named), ["y"], domain=domain, **attributes)
    stored, fed = split({name: np.asarray(array) for name, array in named.items()}, "x")
    check(node, stored, fed, KINDS[a][1])


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize("flipped", [0, 1])
@pytest.mark.parametrize(("a", "b"), [("u8", "u8"), ("u8", "s8"), ("s8", "s8")])
def test_qgemm(a: str, b: str, flipped: int, is_constant: bool) -> None:
    right = extreme(b, (64, 8), 1)
    named = {
        "a": extreme(a, (8, 64), 0),
        "sa": np.float32(2**-6),
        "za": scalar(a, 3),
        "b": np.ascontiguousarray(right.T if flipped else right),
    }
    named |= {
        "sb": np.float32(2**-7),
        "zb": scalar(b),
        "c": np.arange(8, dtype=np.int32),
        "sy": np.float32(4.0),
        "zy": scalar(a),
    }
    node = helper.make_node("QGemm", list(named), ["y"], domain=MS, transB=flipped)
    stored, fed = split(
        {name: np.asarray(array) for name, array in named.items()},
        *(("a",) if is_constant else ("a", "b")),
    )
    check(node, stored, fed, KINDS[a][1])


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize(("a", "b"), [("u8", "u8"), ("u8", "s8"), ("s8", "s8")])
def test_matmul_integer_to_float(a: str, b: str, is_constant: bool) -> None:
    named = {
        "a": extreme(a, (8, 64), 0),
        "b": extreme(b, (64, 8), 1),
        "sa": np.float32(2**-6),
        "sb": np.float32(2**-7),
    }
    named |= {"za": scalar(a, 3), "zb": scalar(b)}
    node = helper.make_node("MatMulIntegerToFloat", list(named), ["y"], domain=MS)
    stored, fed = split(
        {name: np.asarray(array) for name, array in named.items()},
        *(("a",) if is_constant else ("a", "b")),
    )
    # Two float32 factors and the sum in float32: three roundings.
    check(node, stored, fed, TensorProto.FLOAT, rtol=4 * 2**-23)


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize("b", KINDS)
def test_dynamic_quantize_matmul(b: str, is_constant: bool) -> None:
    # Data on a grid of powers of two: levels are equal however the range is rounded.
    a = np.random.default_rng(0).choice([0.0, 255.0, 255.0, 128.0], (8, 64)).astype(np.float32)
    named = {"a": a, "b": extreme(b, (64, 8), 1), "sb": np.float32(2**-7), "zb": scalar(b)}
    node = helper.make_node("DynamicQuantizeMatMul", list(named), ["y"], domain=MS)
    stored, fed = split(
        {name: np.asarray(array) for name, array in named.items()},
        *(("a",) if is_constant else ("a", "b")),
    )
    check(node, stored, fed, TensorProto.FLOAT, rtol=4 * 2**-23)


@pytest.mark.parametrize("is_constant", [True, False])
def test_qattention_is_that_of_unsigned_weights(is_constant: bool) -> None:
    weights = extreme("s8", (8, 24), 1)
    named = {
        "x": extreme("u8", (2, 5, 8), 0),
        "w": weights,
        "b": np.zeros(24, np.float32),
        "sx": np.float32(0.002),
        "sw": np.float32(0.002),
    }
    named |= {"m": np.full(2, 5, np.int32), "zx": scalar("u8", 3), "zw": scalar("s8")}
    node = helper.make_node("QAttention", list(named), ["y"], domain=MS, num_heads=2)
    fed = ("x",) if is_constant else ("x", "w")
    arrays = {name: np.asarray(array) for name, array in named.items()}
    unsigned = {
        **arrays,
        "w": (weights.astype(np.int16) + 128).astype(np.uint8),
        "zw": scalar("u8", 128),
    }
    signed = exact_products(model_of(node, *split(arrays, *fed), TensorProto.FLOAT))
    assert signed is not None
    same = model_of(node, *split(unsigned, *fed), TensorProto.FLOAT)
    got = open_session(signed.SerializeToString()).run(None, {name: arrays[name] for name in fed})[
        0
    ]
    np.testing.assert_array_equal(
        got,
        open_session(same.SerializeToString()).run(None, {name: unsigned[name] for name in fed})[0],
    )


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_dynamic_quantize_lstm_is_that_of_unsigned_weights(direction: str) -> None:
    count, hidden, size = 1 + (direction == "bidirectional"), 4, 6
    w, r = (
        extreme("s8", (count, size, 4 * hidden), 1),
        extreme("s8", (count, hidden, 4 * hidden), 2),
    )

    def run(w: np.ndarray, r: np.ndarray, kind: str) -> np.ndarray:
        zero = np.full(count, KINDS[kind][4], KINDS[kind][0])
        scale = np.full(count, 0.004, np.float32)
        stored = {"w": w, "r": r, "sw": scale, "zw": zero, "sr": scale, "zr": zero}
        inputs = ["x", "w", "r", "", "", "", "", "", "sw", "zw", "sr", "zr"]
        node = helper.make_node(
            "DynamicQuantizeLSTM", inputs, ["y"], domain=MS, hidden_size=hidden, direction=direction
        )
        x = np.random.default_rng(0).random((5, 1, size), np.float32)
        model = model_of(node, stored, {"x": x}, TensorProto.FLOAT)
        return open_session((exact_products(model) or model).SerializeToString()).run(
            None, {"x": x}
        )[0]

    moved = [(array.astype(np.int16) + 128).astype(np.uint8) for array in (w, r)]
    np.testing.assert_array_equal(run(w, r, "s8"), run(*moved, "u8"))


def test_small_weights_and_float_networks_are_left_alone() -> None:
    named = {"a": extreme("u8", (8, 64), 0), "b": np.clip(extreme("s8", (64, 8), 1), -64, 64)}
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    assert exact_products(model_of(node, *split(named, "a"), TensorProto.INT32)) is None
    real = {"a": np.zeros((1, 2), np.float32), "b": np.zeros((2, 2), np.float32)}
    assert (
        exact_products(
            model_of(
                helper.make_node("MatMul", ["a", "b"], ["y"]), *split(real, "a"), TensorProto.FLOAT
            )
        )
        is None
    )


def test_a_weight_of_a_branch_that_is_stored_outside() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]> net (uint8[8, 64] a, bool c) => (int32[8, 8] y) {
            y = If (c) <then_branch = one () => (int32[8, 8] y1) { y1 = MatMulInteger (a, b) },
                        else_branch = two () => (int32[8, 8] y2) { y2 = MatMulInteger (a, b) }> }"""  # noqa: E501
    )
    a, b = extreme("u8", (8, 64), 0), extreme("s8", (64, 8), 1)
    model.graph.initializer.append(numpy_helper.from_array(b, "b"))
    exact = exact_products(model)
    assert exact is not None
    session = open_session(exact.SerializeToString())
    for c in (True, False):
        np.testing.assert_array_equal(
            session.run(None, {"a": a, "c": np.array(c)})[0],
            a.astype(np.int64) @ b.astype(np.int64),
        )


def test_products_with_weights_of_4_bits_keep_their_activations() -> None:
    levels = np.random.default_rng(0).integers(0, 16, (8, 64)).astype(np.uint8)
    packed = (levels[:, 0::2] | (levels[:, 1::2] << 4)).reshape(8, 2, 16)
    a = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        ["a", "b", "s"],
        ["y"],
        domain=MS,
        K=64,
        N=8,
        bits=4,
        block_size=32,
        accuracy_level=4,
    )
    model = model_of(
        node, {"b": packed, "s": np.full(16, 0.1, np.float32)}, {"a": a}, TensorProto.FLOAT
    )
    exact = exact_products(model)
    assert exact is not None
    weights = (levels.astype(np.float64) - 8) * np.float64(np.float32(0.1))
    # gamma(72): 64 products, and 8 roundings of the weights.
    limit = 72 * 2**-24 * (np.abs(a) @ np.abs(weights).T)
    got = open_session(exact.SerializeToString()).run(None, {"a": a})[0]
    assert (np.abs(got - a.astype(np.float64) @ weights.T) <= limit).all()


def test_a_moved_weight_of_one_scale_a_channel_without_zero_points() -> None:
    """onnxruntime makes such weights unsigned itself, and gives them one zero point for all."""
    weights, scales = extreme("s8", (4, 6), 3), np.array([0.5, 1, 2, 0.25], np.float32)
    x = np.random.default_rng(4).integers(-8, 8, (5, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["moved"], perm=[1, 0]),
        helper.make_node("DequantizeLinear", ["moved", "s"], ["real"], axis=1),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    model = model_of(nodes[0], {"w": weights, "s": scales}, {"x": x}, TensorProto.FLOAT)
    model.graph.node.extend(nodes[1:])
    exact = exact_products(model)
    assert exact is not None
    (got,) = open_session(exact.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(got, x @ (weights.T * scales))
