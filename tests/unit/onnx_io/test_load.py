"""What loading makes of sound files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cimrobust.engine.original_file import run_original
from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.weights import weights_of
from tests.zoo_networks import zoo_entries

Load = Callable[..., Network]
Write = Callable[..., Path]

HEAD = '<ir_version: 8, opset_import: ["": 17]>'


def ops(network: Network) -> list[str]:
    return [node.op_type for node in network.model.graph.node]


def test_the_zoo_loads_and_counts_as_its_manifest_does(zoo: Path) -> None:
    for entry in zoo_entries(zoo).values():
        network = load_network(zoo / entry["file"])
        assert dict(network.operators) == entry["ops"], entry["name"]
        assert network.num_parameters == entry["parameters"]
        assert network.files[0].sha256 == entry["sha256"]
        assert network.ir_version == entry["ir_version"]
        assert [spec.name for spec in network.inputs] == [spec["name"] for spec in entry["inputs"]]
        assert [list(spec.shape or ()) for spec in network.inputs] == [
            spec["shape"] for spec in entry["inputs"]
        ]


def test_what_the_file_says_is_kept(write: Write) -> None:
    path = write(
        '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3], producer_name: "p",'
        ' producer_version: "2">g (float[N, 4] x) => (int64[K] y) { y ='
        " ai.onnx.ml.ArrayFeatureExtractor(a, b) a = Cast <to = 7> (x) b = Cast <to = 7> (x) }"
    )
    network = load_network(path)
    assert network.producer == "p 2"
    assert network.opsets == {"": 17, "ai.onnx.ml": 3}
    assert network.operators == {"Cast": 2, "ai.onnx.ml::ArrayFeatureExtractor": 1}
    assert network.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert network.inputs[0].shape == ("N", 4)
    assert network.inputs[0].dtype == "float32"
    assert network.outputs[0].dtype == "int64"


def test_nodes_are_sorted_and_named(load: Load) -> None:
    network = load(
        HEAD + "g (float[4] x) => (float[4] y) { [n] y = Neg(b) [n] b = Relu(a) a = Abs(x) }"
    )
    assert ops(network) == ["Abs", "Relu", "Neg"]
    assert len({node.name for node in network.model.graph.node}) == 3
    assert network.model.graph.node[0].name == "a"


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value = float[2] {1, 2}", np.asarray([1, 2], np.float32)),
        ("value_float = 1.5", np.asarray(1.5, np.float32)),
        ("value_floats = [1.5, 2.0]", np.asarray([1.5, 2], np.float32)),
    ],
)
def test_constants_become_initializers(load: Load, attribute: str, value: np.ndarray) -> None:
    network = load(
        HEAD + f"g (float[2] x) => (float[2] y) {{ c = Constant <{attribute}> () y = Add(x, c) }}"
    )
    assert ops(network) == ["Add"]
    np.testing.assert_array_equal(network.initializers["c"], value)
    assert network.operators == {"Add": 1, "Constant": 1}


def test_a_constant_output_keeps_its_name(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[2] x) => (float[2] y, int64 c) { c = Constant <value_int = 3> () y = Relu(x) }"
    )
    assert [spec.name for spec in network.outputs] == ["y", "c"]
    onnx.checker.check_model(network.model, full_check=True)


def test_initializers_are_no_inputs_and_old_versions_are_raised(load: Load) -> None:
    text = (
        '<ir_version: 3, opset_import: ["": 8]> g (float[N, 2] x, float[2, 2] W) => (float[N, 2] y)'
        " { y = MatMul(x, W) }"
    )
    network = load(text, W=np.ones((2, 2), np.float32))
    assert [spec.name for spec in network.inputs] == ["x"]
    assert network.ir_version == 3
    assert network.model.ir_version == 4
    assert any("graph inputs" in note for note in network.notes)


def test_initializers_are_read_only(load: Load) -> None:
    network = load(HEAD + "g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { y = Add(x, c) }")
    with pytest.raises(ValueError, match="read-only"):
        network.initializers["c"][0] = 5


def test_functions_are_inlined(load: Load) -> None:
    network = load(
        """<ir_version: 8, opset_import: ["": 17, "my": 1]> g (float[N, 2] x) => (float[N, 2] y) { a = my.twice(x) y = my.twice(a) }
        <domain: "my", opset_import: ["": 17]> twice (a) => (b) { c = Constant <value_float = 2.0> () b = Mul(a, c) }"""  # noqa: E501
    )
    assert ops(network) == ["Mul", "Mul"]
    assert list(network.initializers) == ["c"]
    assert not network.model.functions


IF = """g (float[N, 2] x) => (float[N, 2] y) <bool c = {%d}> {
  y = If (c) <then_branch = a () => (float[N, 2] t) { w = Constant <value = float[2] {1, 2}> () t = Add(x, w) },
              else_branch = b () => (float[N, 2] e) { w = Constant <value = float[2] {3, 4}> () e = Mul(x, w) }> }"""  # noqa: E501


@pytest.mark.parametrize(("condition", "op"), [(1, "Add"), (0, "Mul")])
def test_branches_on_constants_are_resolved(load: Load, condition: int, op: str) -> None:
    network = load(HEAD + IF % condition)
    assert ops(network) == [op, "Identity"]
    assert len(network.initializers) == 1


def test_a_branch_on_a_static_shape_is_resolved(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 1, 3] x) => (y) <int64 one = {1}, int64[1] axis = {1}> {
        s = Shape(x) d = Gather(s, one) c = Equal(d, one)
        y = If (c) <then_branch = a () => (t) { t = Squeeze(x, axis) }, else_branch = b () => (e) { e = Identity(x) }> }"""  # noqa: E501
    )
    assert ops(network) == ["Squeeze", "Identity"]
    assert network.outputs[0].shape == ("N", 3)


def test_a_branch_on_data_stays(load: Load) -> None:
    text = IF.replace(" <bool c = {%d}>", "").replace("(float[N, 2] x)", "(float[N, 2] x, bool c)")
    network = load(HEAD + text)
    assert ops(network) == ["If"]
    assert len(network.initializers) == 2
    assert len(set(network.initializers)) == 2


def test_dead_parts_and_value_infos_go(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[2] x) => (float[2] y) <float[2] unused = {1, 2}, float[9] z> { z = Neg(x) y ="
        " Relu(x) }"
    )
    assert ops(network) == ["Relu"]
    assert not network.initializers
    assert not network.model.graph.value_info
    assert any("no output depends on" in note for note in network.notes)


def test_wrong_output_shapes_are_ignored_with_a_note(load: Load) -> None:
    network = load(HEAD + "g (float[N, 2] x) => (float[N, 7] y) { y = Relu(x) }")
    assert network.outputs[0].shape == ("N", 2)
    assert any("wrong shapes" in note for note in network.notes)


def test_outputs_that_are_no_tensors_are_left_out(load: Load) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (float[N, 2] y, seq(float[N, 2]) m) {
        y = Softmax(x) m = SequenceConstruct(y) }"""  # noqa: E501
    network = load(text)
    assert [spec.name for spec in network.outputs] == ["y"]
    assert any("'m'" in note or " m" in note for note in network.notes)


def test_nothing_but_other_outputs_is_not_covered(write: Write) -> None:
    path = write(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] x) => (seq(float[N, 2]) m) { m = SequenceConstruct(x) }"""  # noqa: E501
    )
    with pytest.raises(ModelNotCoveredError, match="not a tensor"):
        load_network(path)


def test_infinities_that_are_no_weights_are_allowed(load: Load) -> None:
    mask = np.asarray([0, -np.inf], np.float32)
    network = load(HEAD + "g (float[N, 2] x) => (float[N, 2] y) { y = Add(x, mask) }", mask=mask)
    np.testing.assert_array_equal(network.initializers["mask"], mask)


def test_shape_arithmetic_on_constants_is_folded(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[1, 6] x) => (y) <int64[1] a = {2}, int64[1] b = {3}> {
        one = Constant <value_ints = [1]> () s = Concat <axis = 0> (one, a, b) y = Reshape(x, s) }"""  # noqa: E501
    )
    assert ops(network) == ["Reshape"]
    assert network.outputs[0].shape == (1, 2, 3)


def test_weights_that_are_computed_are_folded_once(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 2] x) => (y) <float[3, 2] v = {1, 2, 3, 4, 5, 6}, float[3, 1] s = {1, 2, 3}> {
        w = Mul(v, s) t = Transpose(w) y = MatMul(x, t) }"""  # noqa: E501
    )
    assert ops(network) == ["Transpose", "MatMul"]
    np.testing.assert_array_equal(network.initializers["w"], [[1, 2], [6, 8], [15, 18]])
    assert set(network.initializers) == {"w"}
    assert any("Mul computes from constants" in note for note in network.notes)


def test_random_weights_are_not_folded(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 2] x) => (y) { w = RandomNormal <shape = [2, 2]> () y = MatMul(x, w) }"
    )
    assert ops(network) == ["RandomNormal", "MatMul"]


def test_the_standard_domain_may_be_written_out(load: Load) -> None:
    network = load(
        '<ir_version: 8, opset_import: ["ai.onnx": 17]> g (float[2] x) => (float[2] y) { y ='
        " ai.onnx.Relu(x) }"
    )
    assert network.opsets == {"": 17}
    assert network.operators == {"Relu": 1}


def test_negative_dims_of_inputs_are_unknown_ones(write: Write) -> None:
    path = write(HEAD + "g (float[7, 4] x) => (float[7, 4] y) { y = Relu(x) }")
    model = onnx.ModelProto.FromString(path.read_bytes())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    path.write_bytes(model.SerializeToString())
    network = load_network(path)
    assert network.inputs[0].shape == (None, 4)
    assert any("negative dims" in note for note in network.notes)


def test_weights_in_constant_nodes_are_parameters(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 2] x) => (float[N, 3] y) {"
        " w = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()"
        " b = Constant <value_floats = [1.0, 2.0, 3.0]> ()"
        " s = Constant <value_ints = [-1, 3]> () k = Constant <value_float = 2.0> ()"
        " a = MatMul(x, w) c = Add(a, b) d = Mul(c, k) y = Reshape(d, s) }"
    )
    assert network.num_parameters == 9  # neither the shape nor the scalar


@pytest.mark.parametrize(
    ("nodes", "maker"),
    [
        ("w = Cast <to = 1> (i)", "Cast"),
        ("f = Cast <to = 1> (i) w = Mul(f, s)", "Mul"),
        ("t = Transpose <perm = [1, 0]> (i) w = Cast <to = 1> (t)", "Cast"),
        ("f = Cast <to = 1> (i) w = ScatterElements <axis = 0> (f, p, u)", "ScatterElements"),
        ("w = EyeLike <dtype = 1> (i)", "EyeLike"),
        ("w = DequantizeLinear (i, s)", "DequantizeLinear"),
    ],
)
def test_weights_made_of_integers_or_scattered_are_stored(load: Load, nodes: str, maker: str):
    network = load(
        HEAD + "g (float[N, 2] x) => (float[N, 2] y) <int32[2, 2] i = {1, -2, 3, 4},"
        " float s = {0.5}, int64[1, 2] p = {0, 1}, float[1, 2] u = {7, 8}>"
        f" {{ {nodes} y = MatMul(x, w) }}"
    )
    assert any(f"which {maker} computes from constants" in note for note in network.notes)
    weights = weights_of(network.model)
    assert [use.trace.leaves for use in weights.uses()] == [("w",)]


def test_nodes_that_share_a_name_are_run_under_others(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, -2, 3, 4}> {"
        " [n] a = MatMul(x, w) [n] b = Relu(a) [n] y = MatMul(b, w) }"
    )
    assert not network.runs_as_file
    assert any("onnxruntime refuses nodes that share a name, as 'n'" in n for n in network.notes)
    x = np.array([[1, 2], [3, -4]], np.float32)
    w = np.array([[1, -2], [3, 4]], np.float32)
    np.testing.assert_array_equal(run_original(network, {"x": x}), np.maximum(x @ w, 0) @ w)
