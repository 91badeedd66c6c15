"""Integer networks: quantisers around layers, integer operators, levels with and without a zero
point.

Scales are powers of two, so that every way to compute a network gives the same levels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

INPUTS, HIDDEN, CLASSES, SAMPLES = 16, 20, 5, 48
TOLERANCE = 0.08

_DRAW = np.random.default_rng(21)
# Levels of 7 bits: on processors without VNNI, onnxruntime adds pairs of products of 8 bits in 16
# bits, which overflow.
W1, W2 = (
    _DRAW.integers(-63, 64, shape).astype(np.int8)
    for shape in ((INPUTS, HIDDEN), (HIDDEN, CLASSES))
)
X = _DRAW.normal(size=(SAMPLES, INPUTS)).astype(np.float32)
SCALES = {"sx": 2.0**-6, "sw": 2.0**-8, "sh": 2.0**-5, "so": 2.0**-4}
POINTS = {"zx": np.uint8(128), "zw": np.int8(0), "zh": np.uint8(0), "zo": np.uint8(128)}


def text(body: str, **arrays: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[N, {INPUTS}] x) =>'
        f" (float[N, {CLASSES}] y) {{ {body} }}"
    )
    scales = {name: np.array(value, np.float32) for name, value in SCALES.items()}
    held = {"w1": W1, "w2": W2, **scales, **POINTS, "nothing": np.array(0, np.float32), **arrays}
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in held.items()
        if name in read
    )
    return model


IN, OUT = "q = QuantizeLinear(x, sx, zx)", "y = DequantizeLinear(o, so, zo)"
FLOATS = "f1 = DequantizeLinear(w1, sw, zw) f2 = DequantizeLinear(w2, sw, zw)"
#: The state is never negative: its zero point is 0, so that the quantiser is a Relu too.
LAYERS = (
    "d = DequantizeLinear(q, sx, zx) m = MatMul(d, f1) h = QuantizeLinear(m, sh, zh) e ="
    " DequantizeLinear(h, sh, zh) n = MatMul(e, f2) o = QuantizeLinear(n, so, zo)"
)


def plain() -> onnx.ModelProto:
    return text(f"{FLOATS} {IN} {LAYERS} {OUT}")


def _labels() -> np.ndarray:
    """Return the network's own decisions; where two scores are the same level, the class that no
    spelling decides for.
    """
    session = onnxruntime.InferenceSession(
        plain().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    scores = np.asarray(session.run(None, {"x": X})[0])
    best = np.sort(scores, 1)
    return np.where(best[:, -1] > best[:, -2], scores.argmax(1), scores.argmin(1))


LABELS = _labels()


def images(levels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(levels.T)[:, :, None, None]


SPELLINGS: dict[str, Callable[[], onnx.ModelProto]] = {
    "QLinearMatMul": lambda: text(
        f"{IN} h = QLinearMatMul(q, sx, zx, w1, sw, zw, sh, zh) o = QLinearMatMul(h, sh, zh, w2,"
        f" sw, zw, so, zo) {OUT}"
    ),
    "levels from 0": lambda: text(
        f"{IN} h = QLinearMatMul(q, sx, zx, u1, sw, zu, sh, zh) o = QLinearMatMul(h, sh, zh, u2,"
        f" sw, zu, so, zo) {OUT}",
        u1=(W1.astype(np.int16) + 128).astype(np.uint8),
        u2=(W2.astype(np.int16) + 128).astype(np.uint8),
        zu=np.uint8(128),
    ),
    "QGemm": lambda: text(
        f'{IN} h = com.microsoft.QGemm(q, sx, zx, w1, sw, zw, "", sh, zh) o ='
        f' com.microsoft.QGemm(h, sh, zh, w2, sw, zw, "", so, zo) {OUT}'
    ),
    "QLinearConv": lambda: text(
        f"{IN} i = Reshape(q, image) h = QLinearConv(i, sx, zx, k1, sw, zw, sh, zh) c ="
        f" QLinearConv(h, sh, zh, k2, sw, zw, so, zo) o = Flatten(c) {OUT}",
        image=np.array([0, INPUTS, 1, 1], np.int64),
        k1=images(W1),
        k2=images(W2),
    ),
    "MatMulIntegerToFloat": lambda: text(
        f"{IN} m = com.microsoft.MatMulIntegerToFloat(q, w1, sx, sw, zx, zw) h = QuantizeLinear(m,"
        " sh, zh) n = com.microsoft.MatMulIntegerToFloat(h, w2, sh, sw, zh, zw) o ="
        f" QuantizeLinear(n, so, zo) {OUT}"
    ),
    "a Relu of its own": lambda: text(
        f"{FLOATS} {IN}"
        f" {LAYERS.replace('h = QuantizeLinear(m,', 'r = Relu(m) h = QuantizeLinear(r,')} {OUT}"
    ),
    "weights quantised at run time": lambda: text(
        f"w1 = QuantizeLinear(r1, sw, zw) w2 = QuantizeLinear(r2, sw, zw) {FLOATS} {IN} {LAYERS}"
        f" {OUT}",
        r1=W1 * np.float32(SCALES["sw"]),
        r2=W2 * np.float32(SCALES["sw"]),
    ),
    "transposed between levels and layer": lambda: text(
        "v1 = DequantizeLinear(t1, sw, zw) f1 = Transpose(v1) f2 = DequantizeLinear(w2, sw, zw)"
        f" {IN} {LAYERS} {OUT}",
        t1=np.ascontiguousarray(W1.T),
    ),
}


def without_made_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out initializers that a node of the model makes."""
    made = {name for node in model.graph.node for name in node.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in made]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_the_same_network(same: Callable[..., None], name: str) -> None:
    same(
        "integer",
        plain,
        without_made_weights(SPELLINGS[name]()),
        {"x": X},
        LABELS,
        tolerance=TOLERANCE,
    )


def test_products_of_levels_are_the_same_network_in_another_unit(same: Callable[..., None]) -> None:
    """The file's weights are levels; what a level is worth is a factor behind the product."""
    products = (
        "i = MatMulInteger(q, w1, zx) c = Cast<to = 1>(i) m = Mul(c, s1) h = QuantizeLinear(m,"
        " sh, zh)"
    )
    products += (
        " j = MatMulInteger(h, w2, zh) k = Cast<to = 1>(j) n = Mul(k, s2) o = QuantizeLinear(n,"
        " so, zo)"
    )
    factors = {
        "s1": np.float32(SCALES["sx"] * SCALES["sw"]),
        "s2": np.float32(SCALES["sh"] * SCALES["sw"]),
    }
    model = text(f"{IN} {products} {OUT}", **factors)
    same("integer", plain, model, {"x": X}, LABELS, tolerance=TOLERANCE, unit=SCALES["sw"])


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_as_onnxruntime_saves_it(same: Callable[..., None], tmp_path: Path, level: str) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    onnxruntime.InferenceSession(
        plain().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    same("integer", plain, tmp_path / "saved.onnx", {"x": X}, LABELS, tolerance=TOLERANCE)
