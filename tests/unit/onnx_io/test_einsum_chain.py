"""Einsum of more than two operands becomes a chain that computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers

RNG = np.random.default_rng(2)


def saved(path: Path, equation: str, shapes: list[tuple[int, ...]], weights: list[int]) -> Path:
    """Write a network that is one Einsum, of which some operands are weights."""
    values = [RNG.normal(size=shape).astype(np.float32) for shape in shapes]
    names = [f"w{i}" if i in weights else f"x{i}" for i in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node("Einsum", names, ["y"], equation=equation)],
        "g",
        [
            helper.make_tensor_value_info(name, 1, value.shape)
            for name, value in zip(names, values, strict=True)
            if name[0] == "x"
        ],
        [helper.make_tensor_value_info("y", 1, None)],
        [
            numpy_helper.from_array(value, name)
            for name, value in zip(names, values, strict=True)
            if name[0] == "w"
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(
    ("equation", "shapes", "weights", "stored"),
    [
        ("bi,bj,ijk->bk", [(3, 5), (3, 4), (5, 4, 2)], [2], ["w2"]),
        ("bi,ir,ro->bo", [(3, 5), (5, 2), (2, 4)], [1, 2], ["w1", "w2"]),
        ("bi,ijk,bj->bk", [(3, 5), (5, 4, 2), (3, 4)], [1], ["w1"]),
        ("b i, i r, r o", [(3, 5), (5, 2), (2, 4)], [1, 2], ["w1", "w2"]),
        ("...i,ir,ro->...o", [(3, 7, 5), (5, 2), (2, 4)], [1, 2], ["w1", "w2"]),
        ("bi,ij,jk,kl->bl", [(3, 5), (5, 2), (2, 4), (4, 6)], [1, 2, 3], ["w1", "w2", "w3"]),
        ("bi,b,ik->k", [(3, 5), (3,), (5, 2)], [2], ["w2"]),
    ],
)
def test_a_chain_computes_what_the_node_does(
    tmp_path: Path,
    equation: str,
    shapes: list[tuple[int, ...]],
    weights: list[int],
    stored: list[str],
) -> None:
    path = saved(tmp_path / "m.onnx", equation, shapes, weights)
    network = load_network(path)
    assert {len(node.input) for node in network.model.graph.node} == {2}
    assert [layer.initializer for layer in scan_layers(network).layers] == stored
    feeds = {
        f"x{i}": RNG.normal(size=shape).astype(np.float32)
        for i, shape in enumerate(shapes)
        if i not in weights
    }
    read = ort.InferenceSession(network.model.SerializeToString()).run(["y"], feeds)[0]
    want = ort.InferenceSession(path).run(["y"], feeds)[0]
    # atol: sums of at most 20 products of normal numbers, in float32.
    np.testing.assert_allclose(read, want, rtol=1e-5, atol=1e-5)


def test_an_operand_with_a_repeated_index_stays(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", "bi,jj,ik->bk", [(3, 5), (4, 4), (5, 2)], [1, 2])
    nodes = load_network(path).model.graph.node
    assert [len(node.input) for node in nodes] == [3]
