"""Along which axis a graph puts its outputs, and scores that a ZipMap names."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.output_axis import output_axis

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
CONV = "(float[n, 2, 4, 5] x) => (float[n, 3, 4, 5] y) <float[3, 2, 1, 1] w> "
TOKENS = "(float[n, 6, 8] x) => (float[n, {shape}] y) <float[8, 3] w> "


def network(tmp_path, text: str):
    model = parser.parse_model(HEAD + text)
    shape = (3, 2, 1, 1) if "Conv" in text else (8, 3)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "w"))
    onnx.save(model, tmp_path / "m.onnx")
    return load_network(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        (CONV + "{ y = Conv(x, w) }", 1),
        (CONV + "{ c = Conv(x, w) r = Relu(c) y = Softmax<axis = 1>(r) }", 1),
        (TOKENS.format(shape="6, 3") + "{ y = MatMul(x, w) }", 2),
        (
            TOKENS.format(shape="3, 6") + "{ a = MatMul(x, w) y = Transpose<perm = [0, 2, 1]>(a) }",
            1,
        ),
        (
            TOKENS.format(shape="3, 6")
            + "{ a = MatMul(x, w) t = Transpose<perm = [0, 2, 1]>(a) y = Sigmoid(t) }",
            1,
        ),
    ],
)
def test_the_last_layer_shows_the_axis(tmp_path, text, axis):
    assert output_axis(network(tmp_path, text).model, "y")[0] == axis


@pytest.mark.parametrize(
    "text",
    [
        TOKENS.format(shape="18") + "{ a = MatMul(x, w) y = Flatten(a) }",
        (
            "(float[n, 6, 8] x) => (float[n, 6, 6] y) <float[8, 3] w> { a = MatMul(x, w) t ="
            " Transpose<perm = [0, 2, 1]>(a) y = MatMul(a, t) }"
        ),
        (
            "(float[n, 6, 8] x) => (float[n, 6, 3] y) <float[8, 3] w> { a = MatMul(x, w) b ="
            " Relu(a) y = Add(a, b) }"
        ),
    ],
)
def test_what_the_graph_does_not_show_is_not_told(tmp_path, text):
    assert output_axis(network(tmp_path, text).model, "y") is None


def test_scores_that_a_map_names_are_read_with_its_labels(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=1),
        helper.make_node(
            "ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", classlabels_int64s=[7, 3]
        ),
    ]
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(
            onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
        )
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])],
        [helper.make_value_info("scores", kind)],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    loaded = load_network(tmp_path / "m.onnx")
    assert loaded.map_keys == {"scores": (7, 3)}
    assert (loaded.outputs[0].name, loaded.outputs[0].dtype) == ("scores", "float32")
    assert len(loaded.outputs[0].shape) == 2
