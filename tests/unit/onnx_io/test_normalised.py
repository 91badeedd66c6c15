"""One form for all models that somebody builds in memory."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.normalise import is_sorted, normalised
from cimrobust.onnx_io.walk import all_nodes

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.example": 1]>'
RAW = """g (float[2] x, bool c, float[2] w) => (float[2] y) <float[2] w = {2, 3}> {
  y = If (c) <then_branch = a () => (float[2] h) {
    t = Constant<value_floats = [1.0, -1.0]>()
    h = Mul(u, t)
  }, else_branch = b () => (float[2] h) { h = Identity(u) }>
  u = com.example.shifted(x, w)
}
<domain: "com.example", opset_import: ["": 17]> shifted (a, b) => (c) { h = Add(a, b) c = Neg(h) }
"""
CYCLE = "g (float[2] x) => (float[2] y) { y = Add(x, z) z = Neg(y) }"
SPARSE = onnx.helper.make_sparse_tensor(
    onnx.helper.make_tensor("v", 1, [1], [1.0]), onnx.helper.make_tensor("i", 7, [1], [0]), [2]
)


@pytest.mark.parametrize("condition", [True, False])
def test_a_model_in_normal_form_computes_the_same(condition: bool) -> None:
    raw = parser.parse_model(HEAD + RAW)
    made = normalised(raw)
    x, c = np.array([5, 7], np.float32), np.array(condition)
    want = -(x + np.array([2, 3], np.float32)) * ([1, -1] if condition else [1, 1])
    (got,) = ReferenceEvaluator(made).run(None, {"x": x, "c": c})
    np.testing.assert_array_equal(got, want)


def test_nothing_is_left_to_normalise() -> None:
    raw = parser.parse_model(HEAD + RAW)
    made = normalised(raw)
    assert raw == parser.parse_model(HEAD + RAW)
    assert not made.functions
    assert is_sorted(made.graph)
    assert "Constant" not in {node.op_type for node in all_nodes(made.graph)}
    assert [value.name for value in made.graph.input] == ["x", "c"]
    names = [name for node in all_nodes(made.graph) for name in node.output]
    assert len(names) == len(set(names))


def test_a_cycle_is_refused() -> None:
    with pytest.raises(CimrobustError, match=r"model must have a normal form, got .* cycle"):
        normalised(parser.parse_model(HEAD + CYCLE))


def test_a_sparse_constant_is_refused() -> None:
    model = parser.parse_model(HEAD + "g (float[2] x) => (float[2] y) { y = Add(x, k) }")
    node = model.graph.node.add(op_type="Constant", name="s", output=["k"])
    node.attribute.append(onnx.helper.make_attribute("sparse_value", SPARSE))
    with pytest.raises(CimrobustError, match="sparse tensor"):
        normalised(model)
