"""Loops written out compute what their bodies do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.unrolled_loops import unrolled

HEAD = '<ir_version: 8, opset_import: ["": {opset}]> g (float[N, 2] x) => (float[{out}] y) '
WEIGHT = (
    "float[2, 2] w = {0.5, -0.25, 0.75, 1},"
    " float[3, 2, 2] ws = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}"
)
LOOP = (
    "z, rows = Loop (m, {cond}, x) <body = b (int64 i, bool c, float[N, 2] h) =>"
    " (bool d, float[N, 2] n, float[N, 2] r) {{ d = Identity(c) a = MatMul(h, w) n = Tanh(a)"
    " f = Cast <to = 1> (i) r = Add(n, f) }}>"
)
SCAN = (
    "z, rows = Scan (x, ws) <num_scan_inputs = 1, scan_input_directions = [{back}],"
    " scan_output_axes = [{axis}], body = b (float[N, 2] h, float[2, 2] v) =>"
    " (float[N, 2] n, float[N, 2] r) {{ a = MatMul(h, v) n = Tanh(a) r = Neg(n) }}>"
)
NESTED = (
    "z, rows = Loop (m, t, x) <body = b (int64 i, bool c, float[N, 2] h) =>"
    " (bool d, float[N, 2] n, float[N, 2] r) { d = Identity(c) n, s = Scan (h, ws)"
    " <num_scan_inputs = 1, body = e (float[N, 2] p, float[2, 2] v) =>"
    " (float[N, 2] q, float[N, 2] k) { u = MatMul(p, v) q = Tanh(u) k = Identity(q) }>"
    " r = ReduceSum <axes = [0], keepdims = 0> (s) }>"
)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    "body",
    [
        LOOP.format(cond="t"),
        LOOP.format(cond=""),
        SCAN.format(back=0, axis=0),
        SCAN.format(back=1, axis=1),
        NESTED,
    ],
)
def test_a_loop_written_out_computes_the_same(
    load: Callable[[str], Network], body: str, opset: int
) -> None:
    if "axes = [0], keep" in body and opset > 11:
        body = body.replace(" <axes = [0], keepdims = 0> (s)", " <keepdims = 0> (s, ax)")
    text = (
        HEAD.format(opset=opset, out="N, 2")
        + f"<{WEIGHT}, int64 m = {{3}}, bool t = {{1}}, int64[1] ax = {{0}}> {{ {body} s0 ="
        + " ReduceMax <keepdims = 0> (rows) y = Add(z, s0) }"
    )
    network = load(text)
    made = unrolled(network.model)
    assert not {"Loop", "Scan"} & {node.op_type for node in made.graph.node}
    onnx.checker.check_model(made)
    x = np.array([[1, 2], [-0.5, 0.25], [3, 1]], np.float32)
    found, want = (
        ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
        for model in (made, network.model)
    )
    np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        # A condition of its own, and more passes than are written out.
        LOOP.format(cond="t").replace(
            "d = Identity(c)", "e = ReduceMax <keepdims = 0> (h) d = Less(e, g)"
        ),
        LOOP.format(cond="t").replace("(m,", "(many,"),
    ],
)
def test_other_loops_stay(load: Callable[[str], Network], body: str) -> None:
    text = (
        HEAD.format(opset=17, out="N, 2")
        + f"<{WEIGHT}, int64 m = {{3}}, int64 many = {{5000}}, bool t = {{1}}, float g = {{0.5}}>"
        + f" {{ {body} y = Identity(z) }}"
    )
    model = load(text).model
    assert unrolled(model) is model


def test_a_scan_with_an_axis_of_samples_stays() -> None:
    """Scan of version 8 has lengths in front of its states, and no twin."""
    model = onnx.parser.parse_model(
        """<ir_version: 4, opset_import: ["" : 8]>
        net (float[2, 3, 4] x, float[2, 4] s) => (float[2, 4] y) {
          y, z = Scan (, s, x) <num_scan_inputs = 1, body = b (float[4] h, float[4] v) =>
            (float[4] n, float[4] k) { n = Add(h, v) k = Identity(n) }>
        }"""
    )
    assert unrolled(model) is model
