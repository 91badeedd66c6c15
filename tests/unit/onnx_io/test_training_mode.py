"""Nodes that a file leaves in training mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from cimrobust.engine.original_file import run_original
from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.network import Network

Load = Callable[..., Network]
W = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)

PLAIN = """<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 6] x) => (float[n, 3] y) { r = Relu(x) \n y = MatMul(r, W) }"""
TRAINED = """<ir_version: 8, opset_import: ["" : OPSET]>
net (float[n, 6] x) => (float[n, 3] y) <float p = {0.5}, bool on = {1}> { r = Relu(x) \n DROPOUT \n y = MatMul(d, W) }"""  # noqa: E501
MODES = {
    "initializer": "d = Dropout(r, p, on)",
    "constant": "t = Constant<value = bool {1}>() \n d = Dropout(r, p, t)",
    "computed": "no = Not(on) \n t = Not(no) \n d = Dropout(r, p, t)",
    "of the data": (
        "z = Sub(p, p) \n top = ReduceMax<keepdims = 0>(x) \n t = Greater(top, z) \n d = Dropout(r,"
        " p, t)"
    ),
    "mask in use": "e, m = Dropout(r, p, on) \n f = Cast<to = 1>(m) \n d = Mul(e, f)",
}


@pytest.mark.parametrize("opset", [12, 13, 17])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_dropout_in_training_mode_is_left_out(load: Load, mode: str, opset: int) -> None:
    text = TRAINED.replace("OPSET", str(opset)).replace("DROPOUT", mode)
    network = load(text, W=W)
    assert not any(node.op_type == "Dropout" for node in network.model.graph.node)
    assert any("Dropout in training mode is left out" in note for note in network.notes)
    found = run_original(network, {"x": X})
    np.testing.assert_array_equal(found, run_original(load(PLAIN, W=W), {"x": X}))


def test_mode_that_is_a_graph_input_is_left_out_too(load: Load) -> None:
    text = (
        TRAINED.replace("OPSET", "13")
        .replace("x)", "x, bool t)", 1)
        .replace("DROPOUT", "d = Dropout(r, p, t)")
    )
    network = load(text, W=W)
    found = run_original(network, {"x": X}, {"t": np.array(True)})
    np.testing.assert_array_equal(found, run_original(load(PLAIN, W=W), {"x": X}))


def test_onnxruntime_itself_draws_at_random_where_it_does_not_leave_the_node_out(
    load: Load,
) -> None:
    """Why the loaded model is run in place of the file."""
    network = load(TRAINED.replace("OPSET", "13").replace("DROPOUT", MODES["mask in use"]), W=W)
    session = onnxruntime.InferenceSession(network.path, providers=["CPUExecutionProvider"])
    first, second = (session.run(None, {"x": X})[0] for _ in range(2))
    assert not np.array_equal(first, second)
    assert not network.runs_as_file


@pytest.mark.parametrize(
    "node",
    [
        "d = Dropout(r)",
        "d = Dropout(r, p)",
        "off = Not(on) \n d = Dropout(r, p, off)",
        "d, m = Dropout(r, p)",
    ],
)
def test_dropout_at_inference_stays(load: Load, node: str) -> None:
    network = load(TRAINED.replace("OPSET", "13").replace("DROPOUT", node), W=W)
    assert (
        network.runs_as_file or "off" in node
    )  # a mode that is computed is not known before constants are folded
    found = run_original(network, {"x": X})
    np.testing.assert_array_equal(found, run_original(load(PLAIN, W=W), {"x": X}))


BATCH_NORM = """<ir_version: 8, opset_import: ["" : OPSET]>
net (float[n, 3] x) => (float[n, 3] y) <float[3] s = {1, 2, 3}, float[3] b = {1, 2, 3}, float[3] m = {0, 1, 2}, float[3] v = {1, 2, 3}> { NODE }"""  # noqa: E501


@pytest.mark.parametrize(
    ("opset", "node"),
    [
        (9, "y, a, c, d, e = BatchNormalization(x, s, b, m, v)"),
        (14, "y, a, c = BatchNormalization<training_mode = 1>(x, s, b, m, v)"),
        (15, "y, a, c = BatchNormalization<training_mode = 1>(x, s, b, m, v)"),
    ],
)
def test_batch_normalization_in_training_mode_is_refused_by_name(
    load: Load, opset: int, node: str
) -> None:
    with pytest.raises(
        ModelNotCoveredError,
        match=r"node 'y' \(BatchNormalization\) is in training mode.*model.eval",
    ):
        load(BATCH_NORM.replace("OPSET", str(opset)).replace("NODE", node))


def test_batch_normalization_at_inference_is_not(load: Load) -> None:
    assert load(
        BATCH_NORM.replace("OPSET", "15").replace("NODE", "y = BatchNormalization(x, s, b, m, v)")
    ).runs_as_file
