"""Lowering of whole models: names, bodies, chains, what stays and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.lowering.lower_model import lower
from cimrobust.onnx_io.scan import scan_layers

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'


def written(tmp_path: Path, text: str, **arrays: np.ndarray) -> Path:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def operators(path: Path) -> list[str]:
    return [node.op_type for node in load_network(path).model.graph.node]


def same_outputs(path: Path, *shape: int) -> None:
    x = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    models = path.read_bytes(), load_network(path).model.SerializeToString()
    expected, got = (onnxruntime.InferenceSession(model).run(None, {"x": x})[0] for model in models)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_nodes_keep_the_names_of_their_outputs_and_weights(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    text = (
        f"{HEAD} g (float[n, 4, 8] x) => (float[n, 4, 8] y) {{ [a] y = com.microsoft.Attention"
        " <num_heads = 2> (x, W, b) }"
    )
    path = written(
        tmp_path, text, W=rng.normal(0, 1, (8, 24)).astype(np.float32), b=np.zeros(24, np.float32)
    )
    network = load_network(path)
    assert [layer.initializer for layer in scan_layers(network).layers] == ["W"]
    assert all(node.name.startswith("a.") for node in network.model.graph.node)
    assert network.notes == ("1 node com.microsoft::Attention read as standard operators",)
    assert network.operators == {"com.microsoft::Attention": 1}
    same_outputs(path, 3, 4, 8)


def test_a_chain_of_nodes_whose_types_follow_from_each_other(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes = "".join(
        f"h{i + 1} = com.microsoft.TransposeMatMul <transA = 1> (h{i}, W) h{i + 1}t = Transpose"
        f" <perm = [1, 0]> (h{i + 1}) "
        for i in range(3)
    )
    nodes = nodes.replace("(h1, W)", "(h1t, W)").replace("(h2, W)", "(h2t, W)")
    text = (
        f"{HEAD} g (float[8, n] h0) => (float[n, 8] y) {{ {nodes} y = com.microsoft.QuickGelu"
        " (h3) }"
    )
    path = written(tmp_path, text, W=rng.normal(0, 1, (8, 8)).astype(np.float32))
    assert all(node.domain == "" for node in load_network(path).model.graph.node)


def test_nodes_of_bodies_are_lowered_and_their_constants_stay_outside(tmp_path: Path) -> None:
    text = f"""{HEAD} g (float[n, 8] x, bool c) => (float[n, 8] y) {{
        y = If (c) <
          then_branch = t () => (float[n, 8] u) {{ u = com.microsoft.QuickGelu (x) }},
          else_branch = e () => (float[n, 8] v) {{ w = com.microsoft.Gelu (x) v = com.microsoft.QuickGelu <alpha = 2.0> (w) }}
        >
    }}"""  # noqa: E501
    path = written(tmp_path, text)
    model = load_network(path).model
    bodies = [attribute.g for attribute in model.graph.node[0].attribute]
    assert {node.op_type for body in bodies for node in body.node} == {
        "Mul",
        "Sigmoid",
        "Erf",
        "Add",
    }
    x = np.random.default_rng(0).normal(0, 1, (3, 8)).astype(np.float32)
    for flag in (True, False):
        feeds = {"x": x, "c": np.asarray(flag)}
        expected, got = (
            onnxruntime.InferenceSession(m).run(None, feeds)[0]
            for m in (path.read_bytes(), model.SerializeToString())
        )
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_an_output_that_is_an_input_of_another_node_too(tmp_path: Path) -> None:
    text = (
        f"{HEAD} g (float[n, 8] x) => (float[n, 8] y, float[n, 8] z) {{ y = com.microsoft.QuickGelu"
        " (x) z = com.microsoft.QuickGelu (y) }"
    )
    same_outputs(written(tmp_path, text), 2, 8)


def test_both_outputs_of_a_node_may_be_one_tensor(tmp_path: Path) -> None:
    # Of a MultiHeadAttention with the same keys and values.
    text = f"""{HEAD} g (float[n, 4, 8] x) => (float[n, 4, 8] y, float[n, 2, 4, 4] k, float[n, 2, 4, 4] v) {{
        y, k, v = com.microsoft.MultiHeadAttention <num_heads = 2> (x, x, x)
    }}"""  # noqa: E501
    same_outputs(written(tmp_path, text), 2, 4, 8)


def test_a_model_that_imports_no_standard_operators(tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["com.microsoft": 1]> g (float[n, 8] x) => (float[n, 8] y) {'
        " y = com.microsoft.QuickGelu (x) }"
    )
    path = written(tmp_path, text)
    assert operators(path) == ["Mul", "Sigmoid", "Mul"]
    same_outputs(path, 2, 8)


@pytest.mark.parametrize("op", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_operators_that_the_standard_got_later_are_read_in_older_sets(
    tmp_path: Path, op: str
) -> None:
    text = (
        f'<ir_version: 8, opset_import: ["": 13]> g (float[n, 8] x) => (float[n, 8] y) {{ y = {op}'
        " (x, s) }"
    )
    path = written(tmp_path, text, s=np.linspace(0.5, 2.0, 8, dtype=np.float32))
    assert op not in operators(path)
    same_outputs(path, 3, 8)


def test_the_standard_operator_stays_where_the_standard_has_it(tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 8] x) => (float[n, 8] y) { y ='
        " LayerNormalization (x, s) }"
    )
    assert operators(written(tmp_path, text, s=np.ones(8, np.float32))) == ["LayerNormalization"]


def test_a_form_without_standard_nodes_stays_and_is_noted(tmp_path: Path) -> None:
    text = f"""{HEAD} g (float[n, 4, 8] x, float[2, n, 2, 9, 4] p, int32[1] l) => (float[n, 4, 8] y, float[2, n, 2, 9, 4] q) {{
        y, q = com.microsoft.Attention <num_heads = 2, past_present_share_buffer = 1> (x, W, b, , p, , l)
    }}"""  # noqa: E501
    path = written(tmp_path, text, W=np.zeros((8, 24), np.float32), b=np.zeros(24, np.float32))
    network = load_network(path)
    assert [node.op_type for node in network.model.graph.node] == ["Attention"]
    assert (
        "node 'y' (com.microsoft::Attention) stays as it is: rotary embedding and shared buffers"
        in network.notes[0]
    )


@pytest.mark.parametrize(
    ("domain", "op", "reason"),
    [
        ("com.microsoft.nchwc", "Conv", "saved for one kind of processor"),
        ("com.ms.internal.nhwc", "Conv", "saved for one kind of processor"),
        ("com.microsoft", "NhwcFusedConv", "other processors than the CPU alone"),
        ("com.microsoft", "RemovePadding", "other processors than the CPU alone"),
        ("com.microsoft", "EPContext", "compiled for one device"),
        ("com.microsoft", "BeamSearch", "generates a text"),
    ],
)
def test_what_cannot_be_handled_is_refused_by_name(
    tmp_path: Path, domain: str, op: str, reason: str
) -> None:
    node = onnx.helper.make_node(op, ["x"], ["y"], name="n", domain=domain)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 8, 4, 4])
        for name in "xy"
    ]
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(domain, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.helper.make_model(
            onnx.helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=imports
        ),
        path,
    )
    says = "model must use what this version covers, got: "
    with pytest.raises(
        ModelNotCoveredError, match=rf"{says}node 'n' \({domain}::{op}\): .*{reason}"
    ):
        load_network(path)


@pytest.mark.parametrize(
    "text",
    ["com.microsoft.Attention <num_heads = 3> (x, W, b)", "com.microsoft.Attention (x, W, b)"],
)
def test_sizes_that_do_not_fit_stay_for_onnxruntime_to_refuse(tmp_path: Path, text: str) -> None:
    path = written(
        tmp_path,
        f"{HEAD} g (float[n, 4, 8] x) => (float[n, 4, 8] y) {{ y = {text} }}",
        W=np.zeros((8, 24), np.float32),
        b=np.zeros(24, np.float32),
    )
    assert "no multiples" in load_network(path).notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "com.microsoft.Gelu ()",
        "com.microsoft.Attention <num_heads = 2> (x)",
        "com.microsoft.FusedMatMul (x)",
        "com.microsoft.SkipLayerNormalization (x, x)",
    ],
)
def test_nodes_without_their_inputs_are_refused(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, f"{HEAD} g (float[n, 4, 8] x) => (float[n, 4, 8] y) {{ y = {text} }}")
    with pytest.raises(
        ModelNotCoveredError,
        match=r"node 'y' \(com.microsoft::\w+\): it has not all the inputs that its operator needs",
    ):
        load_network(path)


def test_lowering_changes_nothing_where_there_is_nothing_to_lower() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n, 8] x) => (float[n, 8] y) { y = Relu'
        " (x) }"
    )
    before = model.SerializeToString(deterministic=True)
    outcome = lower(model)
    assert model.SerializeToString(deterministic=True) == before
    assert outcome.notes == outcome.refused == ()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def names_are_unique(model: onnx.ModelProto) -> bool:
    names = [name for node in model.graph.node for name in node.output]
    return len(names) == len(set(names))


def test_two_nodes_of_one_name_do_not_clash(load: Callable[..., object]) -> None:
    network = load(
        f"{HEAD} g (float[n, 8] x) => (float[n, 8] y) {{ [a] h = com.microsoft.QuickGelu (x) [a] y"
        " = com.microsoft.QuickGelu (h) }"
    )
    assert names_are_unique(network.model)  # type: ignore[attr-defined]
