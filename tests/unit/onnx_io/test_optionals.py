"""Optional values that are there are read as what they hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from onnx import helper

from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.optionals import open_optionals
from cimrobust.onnx_io.scan import scan_layers

HEAD = '<ir_version: 8, opset_import: ["": 18]> g (float[N, 2] x) => (float[N, 2] y) '
WEIGHT = "<float[2, 2] w = {1, -2, 3, 4}>"


def test_what_an_optional_holds_is_read_in_its_place(load: Callable[[str], Network]) -> None:
    network = load(
        HEAD
        + WEIGHT
        + "{ a = MatMul(x, w) o = Optional(a) b = OptionalGetElement(o) c = OptionalHasElement(o)"
        " y = If (c) <then_branch = t () => (float[N, 2] p) { p = Relu(b) },"
        " else_branch = e () => (float[N, 2] q) { q = Neg(b) }> }"
    )
    operators = {node.op_type for node in network.model.graph.node}
    assert not {name for name in operators if name.startswith("Optional")}
    assert "If" not in operators  # the condition is known, and the branch resolved
    assert [layer.initializer for layer in scan_layers(network).layers] == ["w"]
    x = np.array([[1, 2], [3, -4]], np.float32)
    found, want = (
        ort.InferenceSession(model).run(None, {"x": x})[0]
        for model in (network.model.SerializeToString(), str(network.path))
    )
    np.testing.assert_array_equal(found, want)


def test_an_optional_that_may_hold_nothing_stays() -> None:
    empty = helper.make_node("Optional", [], ["o"], name="o")
    kind = helper.make_tensor_type_proto(1, [2])
    empty.attribute.append(helper.make_attribute("type", helper.make_optional_type_proto(kind)))
    graph = helper.make_graph(
        [
            empty,
            helper.make_node("OptionalHasElement", ["o"], ["b"], name="b"),
            helper.make_node("OptionalHasElement", ["x"], ["c"], name="c"),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_tensor_value_info(name, 9, []) for name in "bc"],
    )
    assert open_optionals(graph) == 0
    assert [node.op_type for node in graph.node] == ["Optional", *["OptionalHasElement"] * 2]
