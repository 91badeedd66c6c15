"""Weights of few bits in several spellings: one mapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.device.load_profile import load_profile
from cimrobust.engine.original_file import run_original
from cimrobust.mapping.place import place
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.layers import CrossbarLayer
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.twin.to_torch import to_torch

RNG = np.random.default_rng(0)
ROWS, COLUMNS, BLOCK = 48, 5, 16
LEVELS = RNG.integers(0, 16, (COLUMNS, ROWS)).astype(np.uint8)
SCALES = RNG.uniform(0.1, 0.3, (COLUMNS, ROWS // BLOCK)).astype(np.float32)
X = RNG.normal(size=(9, ROWS)).astype(np.float32)


def load(
    path: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], opset: int
) -> Network:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", COLUMNS])],
        tensors,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    return load_network(path)


def packed(path: Path, opset: int) -> Network:
    """`MatMulNBits` with zero points of 8."""
    node = helper.make_node(
        "MatMulNBits",
        ["x", "w", "s"],
        ["y"],
        name="m",
        domain="com.microsoft",
        K=ROWS,
        N=COLUMNS,
        bits=4,
        block_size=BLOCK,
    )
    blob = (LEVELS[:, 0::2] | (LEVELS[:, 1::2] << 4)).reshape(COLUMNS, ROWS // BLOCK, BLOCK // 2)
    return load(
        path,
        [node],
        [numpy_helper.from_array(blob, "w"), numpy_helper.from_array(SCALES, "s")],
        opset,
    )


def blocked(path: Path) -> Network:
    """`DequantizeLinear` in blocks, of [outputs, inputs], and a product with its transpose."""
    zeros = helper.make_tensor("z", TensorProto.UINT4, SCALES.shape, [8] * SCALES.size)
    levels = helper.make_tensor("w", TensorProto.UINT4, LEVELS.shape, LEVELS.reshape(-1))
    nodes = [
        helper.make_node(
            "DequantizeLinear", ["w", "s", "z"], ["v"], name="d", axis=1, block_size=BLOCK
        ),
        helper.make_node("Transpose", ["v"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="m"),
    ]
    return load(path, nodes, [levels, zeros, numpy_helper.from_array(SCALES, "s")], 21)


def only_layer(network: Network) -> CrossbarLayer:
    (layer,) = scan_layers(network).layers
    return layer


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_packed_weights_are_mapped_as_the_same_weights_in_blocks(
    tmp_path: Path, opset: int
) -> None:
    one, other = packed(tmp_path / "p.onnx", opset), blocked(tmp_path / "b.onnx")
    first, second = only_layer(one), only_layer(other)
    assert (first.initializer, second.initializer) == ("w.levels", "w")
    assert (first.shape, first.num_rows, first.num_cols, first.bits) == (
        second.shape,
        second.num_rows,
        second.num_cols,
        second.bits,
    )
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.levels, second.levels)
    np.testing.assert_array_equal(first.column, second.column)
    profile = load_profile("rram-write-verify-3pct")
    tensors = [
        place(scan_layers(network), profile).tensors[name]
        for network, name in ((one, "w.levels"), (other, "w"))
    ]
    assert [tensor.num_slices for tensor in tensors] == [2, 2]
    np.testing.assert_array_equal(tensors[0].lo, tensors[1].lo)
    np.testing.assert_allclose(
        run_original(one, {"x": X}), run_original(other, {"x": X}), rtol=1e-5, atol=1e-5
    )


def test_the_box_is_that_of_each_block(tmp_path: Path) -> None:
    tensor = place(
        scan_layers(packed(tmp_path / "p.onnx", 17)), load_profile("rram-write-verify-3pct")
    ).tensors["w.levels"]
    values = ((LEVELS.astype(np.float32) - 8) * np.repeat(SCALES, BLOCK, axis=1)).reshape(
        COLUMNS, -1, BLOCK
    )
    expected = 0.03 * np.abs(values).max(axis=2, keepdims=True)
    np.testing.assert_allclose(
        tensor.hi.reshape(values.shape), np.broadcast_to(expected, values.shape), rtol=1e-5
    )


def test_gradients_reach_packed_weights(tmp_path: Path) -> None:
    network = packed(tmp_path / "p.onnx", 17)
    scan = scan_layers(network)
    twin = to_torch(deploy(network, scan).model, weight_names=["w.levels"])
    assert twin.weights["w.levels"].shape == (COLUMNS, ROWS)
