from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import parser

from cimrobust.twin.to_torch import to_torch

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
X = np.array([[1.0, -2.0, 3.0]], np.float32)


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


IF = """g (float[1, 3] x, bool c) => (float[1, n] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
  y = If (c) <then_branch = a () => (float[1, n] p) { p = MatMul(x, w) }, else_branch = b () => (float[1, n] q) { q = Neg(x) }>
}"""  # noqa: E501
LOOP = """g (float[1, 3] x) => (float[1, 3] y, float[4, 1, 3] all) <int64 n = {4}, bool go = {1}, float[3, 3] w = {0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5}> {
  y, all = Loop (n, go, x) <body = b (int64 i, bool before, float[1, 3] s) => (bool after, float[1, 3] t, float[1, 3] out) {
    after = Identity(before)
    f = Cast<to = 1>(i)
    m = MatMul(s, w)
    t = Add(m, f)
    out = Relu(t)
  }>
}"""  # noqa: E501
SCAN = """g (float[3] s, float[5, 3] x) => (float[3] last, float[5, 3] all) <float[3] w = {0.5, 0.25, 2}> {
  last, all = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = b (float[3] a, float[3] p) => (float[3] c, float[3] d) {
    m = Mul(a, w)
    c = Add(m, p)
    d = Tanh(c)
  }> (s, x)
}"""  # noqa: E501


@pytest.mark.parametrize("condition", [True, False])
def test_if_runs_the_branch_chosen(check_model, condition):
    check_model(model(IF), {"x": X, "c": np.array(condition)})


def test_loop_carries_and_collects(check_model):
    check_model(model(LOOP), {"x": X})


def test_scan_runs_backwards(check_model, rng):
    check_model(model(SCAN), {"s": X[0], "x": rng.normal(size=(5, 3)).astype(np.float32)})


@pytest.mark.parametrize(("text", "feeds"), [(IF, {"c": torch.tensor(True)}), (LOOP, {})])
def test_gradients_reach_a_weight_that_a_body_captures(text, feeds):
    twin = to_torch(model(text), weight_names=["w"])
    w = twin.weights["w"].requires_grad_()
    twin({"x": torch.from_numpy(X), **feeds}, {"w": w})["y"].sum().backward()
    assert w.grad.abs().sum() > 0


def test_nested_bodies_see_all_outer_values(check_model):
    text = """g (float[1, 3] x, bool c, bool d) => (float[1, 3] y) {
      z = Abs(x)
      y = If (c) <then_branch = a () => (float[1, 3] p) {
        p = If (d) <then_branch = e () => (float[1, 3] r) { r = Mul(x, z) }, else_branch = f () => (float[1, 3] s) { s = Sub(x, z) }>
      }, else_branch = b () => (float[1, 3] q) { q = Identity(z) }>
    }"""  # noqa: E501
    for c in (True, False):
        for d in (True, False):
            check_model(model(text), {"x": X, "c": np.array(c), "d": np.array(d)})


@pytest.mark.parametrize("opset", [23, 24])
def test_attention_comes_from_its_function_body(check, rng, opset):
    inputs = {name: rng.normal(size=(2, 3, 4, 8)).astype(np.float32) for name in "qkv"}
    check("Attention", inputs, opset=opset, is_causal=1)
