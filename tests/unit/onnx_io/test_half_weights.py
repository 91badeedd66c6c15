"""Weights that a network casts to 16 bits are handed over so, and give the same bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.half_weights import read_as_halves, to_half
from cimrobust.onnx_io.session_template import external_bytes

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float16[N, 3] x) => (float16[N, 3] y) '
ONE = "h = Cast<to = 10>(w) y = MatMul(x, h)"
TWICE = "h = Cast<to = 10>(w) k = Cast<to = 10>(w) m = MatMul(x, h) y = MatMul(m, k)"
OTHERWISE = "h = Cast<to = 10>(w) f = Cast<to = 1>(x) g = MatMul(f, w) y = Cast<to = 10>(g)"
INSIDE = (
    "b = Constant<value = bool {1}>() h = Cast<to = 10>(w)"
    " y = If (b) <then_branch = t () => (float16[N, 3] o)"
    " { c = Cast<to = 10>(w) o = MatMul(x, c) },"
    " else_branch = e () => (float16[N, 3] q) { q = MatMul(x, h) }>"
)


def model_of(body: str) -> onnx.ModelProto:
    weight = "<float[3, 3] w = {0, 1, 2, 3, 4, 5, 6, 7, 8}>"
    return onnx.parser.parse_model(f"{HEAD}{weight} {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "found"), [(ONE, {"w"}), (TWICE, {"w"}), (OTHERWISE, set()), (INSIDE, set())]
)
def test_weights_that_all_readers_cast_are_found(body: str, found: set[str]) -> None:
    assert read_as_halves(model_of(body), ["w"]) == found
    assert read_as_halves(model_of(body), ["another"]) == frozenset()


@pytest.mark.parametrize("body", [ONE, TWICE])
def test_a_session_with_halves_computes_the_same_bits(body: str) -> None:
    model, rng = model_of(body), np.random.default_rng(0)
    weights = rng.standard_normal((3, 3), dtype=np.float32)
    # Too large for float16, one of its denormal numbers, half way between two of its numbers.
    weights[0] = 1e5, 3e-7, 1 + 2**-11
    feed = {"x": np.array([[1, 0, 0], [0, 2, 3], [4, 1, 1]], np.float16)}
    given = []
    for halves, values in (((), weights), (("w",), to_half(weights))):
        options = ort.SessionOptions()
        options.add_external_initializers(["w"], [ort.OrtValue.ortvalue_from_numpy(values)])
        template = external_bytes(model, ["w"], halves=frozenset(halves))
        given.append(ort.InferenceSession(template, options).run(None, feed)[0])
    assert np.isinf(given[0][0, 0])
    assert given[0].tobytes() == given[1].tobytes()
