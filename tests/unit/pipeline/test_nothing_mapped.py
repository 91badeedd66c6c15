"""A model without crossbar layers: the message names what holds its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.errors import ModelNotCoveredError
from cimrobust.pipeline.inspection import inspect_model


def write(
    path: Path, nodes: list[onnx.NodeProto], outputs: list[str], arrays: dict[str, np.ndarray]
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [
        helper.make_opsetid("", 17),
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("ai.onnx.ml", 1),
    ]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def test_node_that_holds_weights_in_its_attributes_is_named(tmp_path: Path) -> None:
    support = {
        "coefficients": [1.0],
        "support_vectors": [1.0, 2.0, 3.0, 4.0],
        "rho": [0.1],
        "kernel_type": "RBF",
        "n_supports": 1,
    }
    node = helper.make_node(
        "SVMRegressor",
        ["x"],
        ["y"],
        name="svm",
        domain="ai.onnx.ml",
        kernel_params=[0.5, 0.0, 3.0],
        **support,
    )
    with pytest.raises(
        ModelNotCoveredError,
        match=(
            r"got none .*node 'svm' \(ai.onnx.ml::SVMRegressor\): weights are attributes of the"
            r" node"
        ),
    ):
        inspect_model(
            write(tmp_path / "m.onnx", [node], ["y"], {}), device="rram-write-verify-3pct"
        )


def test_node_whose_packed_weights_are_not_covered_is_named(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulFpQ4",
        ["x", "w", "s"],
        ["y"],
        name="packed",
        domain="com.microsoft",
        blk_quant_type=0,
    )
    arrays = {"w": np.zeros((20, 2), np.uint8), "s": np.array([4, 3])}
    with pytest.raises(
        ModelNotCoveredError,
        match=(
            r"node 'packed' \(com.microsoft::MatMulFpQ4\): weights of com.microsoft::MatMulFpQ4 are"
            r" not covered"
        ),
    ):
        inspect_model(
            write(tmp_path / "m.onnx", [node], ["y"], arrays), device="rram-write-verify-3pct"
        )


def test_network_of_activations_alone_has_nothing_to_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotCoveredError, match=r"got none \([^)]*\); Conv, ConvTranspose"):
        inspect_model(
            write(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], ["y"], {}),
            device="rram-write-verify-3pct",
        )
