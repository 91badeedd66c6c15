"""Spellings whose reading is the work of other branches; `MERGED` names those that are in.

Once a branch is merged its name is added to `MERGED`, and its spellings are tests like all others:
until then they must fail, so that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

#: Branches that are merged here.
MERGED = frozenset({"contrib", "fold", "ops"})

INPUTS, CLASSES, SAMPLES = 32, 5, 48
TOLERANCE = 0.08

_DRAW = np.random.default_rng(31)
X = _DRAW.normal(size=(SAMPLES, INPUTS)).astype(np.float32)


@dataclass(frozen=True)
class Waiting:
    """Two spellings of one network, and the branch whose work reads the second as the first."""

    branch: str
    first: Callable[[], onnx.ModelProto]
    other: Callable[[], onnx.ModelProto]


def decisions(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": X})[0]).argmax(1)


def text(body: str, *, opset: int = 17, imports: str = "", **arrays: np.ndarray) -> onnx.ModelProto:
    version = 8 if opset < 21 else 10
    model = parser.parse_model(
        f'<ir_version: {version}, opset_import: ["": {opset}{imports}]> g (float[N, {INPUTS}] x) =>'
        f" (float[N, {CLASSES}] y) {{ {body} }}"
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()
    )
    return model


SQUARE = _DRAW.normal(size=(INPUTS, INPUTS)).astype(np.float32) / 4
LAST = _DRAW.normal(size=(INPUTS, CLASSES)).astype(np.float32) / 4


def tied() -> onnx.ModelProto:
    return text(
        "a = MatMul(x, w) r = Relu(a) b = MatMul(r, w) s = Relu(b) y = MatMul(s, v)",
        w=SQUARE,
        v=LAST,
    )


def function_called_twice() -> onnx.ModelProto:
    model = text("r = own.Layer(x) s = own.Layer(r) y = MatMul(s, v)", imports=', "own": 1', v=LAST)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(SQUARE, "w")),
        helper.make_node("MatMul", ["i", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["o"]),
    ]
    model.functions.append(
        helper.make_function("own", "Layer", ["i"], ["o"], nodes, [helper.make_opsetid("", 17)])
    )
    return model


def equal_constants_of_two_functions() -> onnx.ModelProto:
    """Return the same with the weight as an argument of the function, which holds no constant."""
    model = text(
        "r = own.Layer(x, w) s = own.Layer(r, w) y = MatMul(s, v)",
        imports=', "own": 1',
        w=SQUARE,
        v=LAST,
    )
    nodes = [helper.make_node("MatMul", ["i", "k"], ["m"]), helper.make_node("Relu", ["m"], ["o"])]
    model.functions.append(
        helper.make_function(
            "own", "Layer", ["i", "k"], ["o"], nodes, [helper.make_opsetid("", 17)]
        )
    )
    return model


BLOCK = 16
LEVELS = _DRAW.integers(0, 16, (CLASSES, INPUTS)).astype(np.uint8)
BLOCK_SCALES = _DRAW.uniform(0.02, 0.1, (CLASSES, INPUTS // BLOCK)).astype(np.float32)


def blocked() -> onnx.ModelProto:
    """Return a layer with 4-bit weights of one scale a block, as QuantizeLinear's blocks have it."""  # noqa: E501
    zero = helper.make_tensor(
        "z", TensorProto.UINT4, BLOCK_SCALES.shape, np.full(BLOCK_SCALES.size, 8, np.uint8).tolist()
    )
    levels = helper.make_tensor("w", TensorProto.UINT4, LEVELS.shape, LEVELS.reshape(-1).tolist())
    model = text(
        f"f = DequantizeLinear<axis = 1, block_size = {BLOCK}>(w, s, z) t = Transpose(f) y ="
        " MatMul(x, t)",
        opset=21,
        s=BLOCK_SCALES,
    )
    model.graph.initializer.extend([levels, zero])
    return model


def packed_bits() -> onnx.ModelProto:
    pairs = LEVELS.reshape(CLASSES, INPUTS // BLOCK, BLOCK // 2, 2)
    packed = (pairs[..., 0] | (pairs[..., 1] << 4)).astype(np.uint8)
    sizes = f"K = {INPUTS}, N = {CLASSES}, bits = 4, block_size = {BLOCK}"
    return text(
        f"y = com.microsoft.MatMulNBits<{sizes}>(x, w, s)",
        opset=21,
        imports=', "com.microsoft": 1',
        w=packed,
        s=BLOCK_SCALES.reshape(-1),
    )


FEW_BITS = _DRAW.integers(-7, 8, (INPUTS, CLASSES)).astype(np.int8)
SCALE = np.float32(2.0**-4)


def dequantised() -> onnx.ModelProto:
    levels = helper.make_tensor(
        "w", TensorProto.INT4, FEW_BITS.shape, FEW_BITS.reshape(-1).tolist()
    )
    model = text("f = DequantizeLinear(w, s) y = MatMul(x, f)", opset=21, s=SCALE)
    model.graph.initializer.append(levels)
    return model


def qonnx() -> onnx.ModelProto:
    arrays = {"w": FEW_BITS * SCALE, "s": SCALE, "z": np.float32(0), "b": np.float32(4)}
    quant = 'f = onnx.brevitas.Quant<signed = 1, narrow = 1, rounding_mode = "ROUND">(w, s, z, b)'
    return text(f"{quant} y = MatMul(x, f)", opset=13, imports=', "onnx.brevitas": 1', **arrays)


def linear() -> onnx.ModelProto:
    return text("y = Gemm(x, v, c)", v=LAST, c=np.arange(CLASSES, dtype=np.float32) / 10)


def linear_regressor() -> onnx.ModelProto:
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        coefficients=LAST.T.reshape(-1).tolist(),
        intercepts=(np.arange(CLASSES, dtype=np.float32) / 10).tolist(),
        targets=CLASSES,
    )
    model = text("y = Identity(x)", imports=', "ai.onnx.ml": 3')
    model.graph.node[0].CopyFrom(node)
    return model


HEADS, TOKENS, WIDTH = 2, 4, 8
QKV = _DRAW.normal(size=(WIDTH, 3 * WIDTH)).astype(np.float32) / 2
QKV_BIAS = _DRAW.normal(size=3 * WIDTH).astype(np.float32) / 2


def attention_written_out() -> onnx.ModelProto:
    axes = {
        "words": (0, TOKENS, WIDTH),
        "heads": (0, TOKENS, 3, HEADS, WIDTH // HEADS),
        "joined": (0, TOKENS * WIDTH),
        "one": (1,),
    }
    body = """i = Reshape(x, words) p = MatMul(i, w) a = Add(p, b) h = Reshape(a, heads) t = Transpose<perm = [2, 0, 3, 1, 4]>(h)
        q3, k3, v3 = Split<axis = 0, num_outputs = 3>(t) q = Squeeze(q3, zero) k = Squeeze(k3, zero) u = Squeeze(v3, zero)
        kt = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, kt) d = Mul(s, root) m = Softmax(d) o = MatMul(m, u)
        c = Transpose<perm = [0, 2, 1, 3]>(o) j = Reshape(c, joined) y = MatMul(j, v)"""  # noqa: E501
    arrays = {name: np.array(value, np.int64) for name, value in axes.items() if name != "one"}
    root = np.float32((WIDTH // HEADS) ** -0.5)
    return text(
        body, opset=18, w=QKV, b=QKV_BIAS, v=LAST, zero=np.array([0], np.int64), root=root, **arrays
    )


def attention_of_onnxruntime() -> onnx.ModelProto:
    axes = {"words": (0, TOKENS, WIDTH), "joined": (0, TOKENS * WIDTH)}
    body = (
        f"i = Reshape(x, words) o = com.microsoft.Attention<num_heads = {HEADS}>(i, w, b) j ="
        " Reshape(o, joined) y = MatMul(j, v)"
    )
    arrays = {name: np.array(value, np.int64) for name, value in axes.items()}
    return text(body, opset=18, imports=', "com.microsoft": 1', w=QKV, b=QKV_BIAS, v=LAST, **arrays)


WAITING: dict[str, Waiting] = {
    "function with a constant, called twice": Waiting("fold", tied, function_called_twice),
    "function of its weight, called twice": Waiting(
        "contrib", tied, equal_constants_of_two_functions
    ),
    "Attention": Waiting("contrib", attention_written_out, attention_of_onnxruntime),
    "MatMulNBits": Waiting("ops", blocked, packed_bits),
    "QONNX": Waiting("ops", dequantised, qonnx),
    "LinearRegressor": Waiting("ops", linear, linear_regressor),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_spelling_is_the_same_network(
    same: Callable[..., None], name: str, request: pytest.FixtureRequest
) -> None:
    waiting = WAITING[name]
    if waiting.branch not in MERGED:
        request.applymarker(
            pytest.mark.xfail(reason=f"needs the work of branch wt-{waiting.branch}", strict=True)
        )
    same(
        name,
        waiting.first,
        waiting.other(),
        {"x": X},
        decisions(waiting.first()),
        tolerance=TOLERANCE,
    )
