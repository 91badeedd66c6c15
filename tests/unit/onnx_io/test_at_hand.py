"""Branches that the sizes of the data decide: for search and bounds, never for a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cimrobust.onnx_io.at_hand import agreeing, at_hand
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[n, 4, h, w] x) => (float[n, 3] y)
<int64 i2 = {2}, int64 i3 = {3}, float[4, 3] W1 = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4, 3] W2 = {1,2,3,4,5,6,7,8,9,10,11,12}> {
  s = Shape(x) H = Gather(s, i2) W = Gather(s, i3) c = Equal(H, W) p = ReduceMean <axes = [2, 3], keepdims = 0> (x)
  y = If (c) <then_branch = a () => (float[n, 3] t) { t = MatMul(p, W1) },
              else_branch = b () => (float[n, 3] e) { e = MatMul(p, W2) }> }"""  # noqa: E501


def deployed_of(load: Load) -> Deployed:
    network = load(TEXT)
    return deploy(network, scan_layers(network))


@pytest.mark.parametrize(("shape", "taken"), [([None, 4, 8, 8], "W1"), ([None, 4, 8, 6], "W2")])
def test_the_branch_of_the_data_is_left(load: Load, shape: list[int | None], taken: str) -> None:
    deployed = deployed_of(load)
    special = at_hand(deployed, {"x": shape})
    read = {name for node in special.model.graph.node for name in node.input}
    assert "If" not in [node.op_type for node in special.model.graph.node]
    assert read & {"W1", "W2"} == {taken}
    assert {tensor.name for tensor in special.model.graph.initializer} >= {"W1", "W2"}
    assert "If" in [node.op_type for node in deployed.model.graph.node]


def test_sizes_that_differ_decide_nothing(load: Load) -> None:
    deployed = deployed_of(load)
    assert at_hand(deployed, {"x": [None, 4, None, 8]}) is deployed
    assert at_hand(deployed, {}) is deployed


def test_a_network_without_branches_is_itself(load: Load) -> None:
    network = load(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 2] x) => (float[n, 2] y) { y ='
        " Neg(x) }"
    )
    deployed = deploy(network, scan_layers(network))
    assert at_hand(deployed, {"x": [None, 2]}) is deployed


def test_shapes_agree_where_they_are_equal() -> None:
    assert agreeing({"x": [None, 3, 5], "z": [2]}, {"x": [None, 3, 6], "z": [2, 2]}) == {
        "x": [None, 3, None]
    }
