"""Files with crossbar nodes: valid, run by plain onnxruntime with the quantised network's outputs,
and read again by this package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.save import with_weights
from cimrobust.pipeline.inspection import Inspection, inspect_model
from cimrobust.pipeline.rewriting import Rewritten, rewrite
from tests.exact_runs import exact_model, exact_options
from tests.zoo_networks import ZOO_NETWORKS, zoo_entries

Arrays = Mapping[str, np.ndarray]
Rewrite = Callable[..., Rewritten]

DEVICE = "rram-write-verify-3pct"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: str | bytes, feeds: Arrays) -> list[np.ndarray]:
    options = exact_options()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return list(
        ort.InferenceSession(exact_model(model), options, providers=["CPUExecutionProvider"]).run(
            None, dict(feeds)
        )
    )


def feeds_for(inspection: Inspection) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        spec.name: (
            generator.normal(
                size=[dim if isinstance(dim, int) else 3 for dim in spec.shape or ()]
            ).astype(spec.dtype)
        )
        for spec in inspection.network.inputs
    }


def compare(expected: list[np.ndarray], got: list[np.ndarray]) -> None:
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(
            b, a, rtol=0, atol=1e-5 * float(np.abs(a).max(initial=0))
        )  # float32 sums in another order


def check(rewritten: Rewritten) -> onnx.ModelProto:
    """Check a file: valid, every layer a crossbar node, outputs those of the quantised network, and
    the same after reading it again.
    """
    inspection = rewritten.inspection
    onnx.checker.check_model(str(rewritten.path), full_check=True)
    model = onnx.load(str(rewritten.path))
    feeds = feeds_for(inspection)
    deployed = deploy(inspection.network, inspection.scan, widen=False)
    quantised = with_weights(deployed, inspection.placement.nominal())
    expected = run(quantised.SerializeToString(), feeds)
    compare(expected, run(str(rewritten.path), feeds))
    again = inspect_model(rewritten.path, device=DEVICE)
    layers, layers_again = inspection.scan.layers, again.scan.layers
    assert {layer.initializer: layer.shape for layer in layers_again} == {
        layer.initializer: layer.shape for layer in layers
    }
    assert [len(layer.uses) for layer in layers_again] == [len(layer.uses) for layer in layers]
    second = deploy(again.network, again.scan, widen=False)
    compare(expected, run(second.model.SerializeToString(), feeds))
    return model


@pytest.fixture
def written(tmp_path: Path) -> Rewrite:
    """Write a model given as ONNX text, with arrays as initializers, and rewrite it."""

    def written(
        text: str,
        head: str = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>',
        **arrays: np.ndarray,
    ) -> Rewritten:
        model = onnx.parser.parse_model(f"{head} {text}")
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()
        )
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        return rewrite(tmp_path / "model.onnx", device=DEVICE, out=tmp_path / "crossbars.onnx")

    return written


def crossbar_calls(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == "cimrobust"]


def test_layers_become_function_nodes(written: Rewrite) -> None:
    rewritten = written(
        """g (float[n, 2, 6, 6] x) => (float[n, 3] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, V, b)  r = Relu (a)
            c = Conv <strides = [2, 2]> (r, U)
            f = Flatten (c)  y = Gemm <transB = 1> (f, W)
        }""",
        V=normal(2, 2, 3, 3),
        U=normal(1, 2, 2, 2),
        W=normal(3, 9),
        b=normal(2),
    )
    model = check(rewritten)
    assert rewritten.num_nodes == {"CrossbarConv": 2, "CrossbarGemm": 1}
    assert [node.op_type for node in crossbar_calls(model)] == [
        "CrossbarConv",
        "CrossbarConv",
        "CrossbarGemm",
    ]
    assert [(function.name, list(function.input)) for function in model.functions] == [
        ("CrossbarConv", ["X", "W", "B"]),
        ("CrossbarGemm", ["A", "B"]),
    ]
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    for name, values in rewritten.inspection.placement.nominal().items():
        np.testing.assert_array_equal(weights[name], values)


@pytest.mark.parametrize("ir_version", [8, 10])
def test_metadata_says_where_weights_are_stored(written: Rewrite, ir_version: int) -> None:
    head = f'<ir_version: {ir_version}, opset_import: ["": 17]>'
    rewritten = written(
        "g (float[n, 4] x) => (float[n, 3] y) { y = MatMul (x, W) }", head, W=normal(4, 3)
    )
    model = check(rewritten)
    (node,) = crossbar_calls(model)
    if ir_version < 10:
        (facts,) = json.loads(node.doc_string)["cimrobust.B"]
    else:
        (facts,) = json.loads(
            {entry.key: entry.value for entry in node.metadata_props}["cimrobust.B"]
        )
    assert (facts["initializer"], facts["bits"], facts["slices"], facts["tiles"]) == ("W", 8, 4, 1)
    assert facts["box_radius"] == rewritten.inspection.placement.tensors["W"].box_radius
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["cimrobust.device"] == DEVICE
    assert json.loads(properties["cimrobust.layers"]) == [facts]
    assert json.loads(properties["cimrobust.profile"])["weight"]["bits"] == 8


def test_an_old_operator_set_works(written: Rewrite) -> None:
    rewritten = written(
        "g (float[2, 4] x, float[4, 3] W) => (float[2, 3] y) { h = MatMul (x, W)  s = Reshape (h,"
        " shape)  y = BatchNormalization (s, b, b, b, c) }",
        '<ir_version: 3, opset_import: ["": 9]>',
        W=normal(4, 3),
        b=normal(3),
        c=normal(3) ** 2,
        shape=np.array([2, 3]),
    )
    model = check(rewritten)
    assert (model.ir_version, model.opset_import[0].version) == (8, 9)


def test_recurrent_layers_and_outputs_left_out(written: Rewrite) -> None:
    rewritten = written(
        """g (float[5, 2, 4] x) => (float[1, 2, 3] y) {
            h, last = LSTM <hidden_size = 3> (x, W, R, "", "", state)
            s = Squeeze (h, one)
            "", y = LSTM <hidden_size = 3> (s, V, R)
        }""",
        W=normal(1, 12, 4),
        V=normal(1, 12, 3, seed=2),
        R=normal(1, 12, 3, seed=1),
        state=normal(1, 2, 3),
        one=np.array([1]),
    )
    model = check(rewritten)
    assert all(
        len(node.output) == len(model.functions[0].output) == 2 and all(node.output)
        for node in crossbar_calls(model)
    )


def test_layers_in_bodies_and_fused_layers(written: Rewrite) -> None:
    rewritten = written(
        """g (float[2, 4] x, bool c) => (float[2, 4] y) {
            h = com.microsoft.FusedMatMul <transB = 1> (x, V)
            e = Einsum <equation = "ab,bc->ac"> (h, U)
            y = If (c) <
                then_branch = yes () => (float[2, 4] p) { p = MatMul (e, W) },
                else_branch = no () => (float[2, 4] o) { o = Relu (e) }
            >
        }""",
        W=normal(4, 4),
        V=normal(4, 4, seed=1),
        U=normal(4, 4, seed=2),
    )
    model = onnx.load(str(rewritten.path))
    assert rewritten.num_nodes == {"CrossbarMatMul": 3}
    onnx.checker.check_model(model)
    inspection = rewritten.inspection
    quantised = with_weights(
        deploy(inspection.network, inspection.scan, widen=False), inspection.placement.nominal()
    )
    for choice in (True, False):
        feeds = {"x": normal(2, 4), "c": np.array(choice)}
        compare(run(quantised.SerializeToString(), feeds), run(str(rewritten.path), feeds))


def test_a_rewritten_file_can_be_rewritten(written: Rewrite, tmp_path: Path) -> None:
    first = written("g (float[n, 4] x) => (float[n, 3] y) { y = MatMul (x, W) }", W=normal(4, 3))
    second = rewrite(first.path, device="rram-write-verify-1pct", out=tmp_path / "twice.onnx")
    model = check(second)
    assert [(entry.domain, entry.version) for entry in model.opset_import].count(
        ("cimrobust", 1)
    ) == 1
    assert {entry.key: entry.value for entry in model.metadata_props}[
        "cimrobust.device"
    ] == "rram-write-verify-1pct"


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_the_zoo(zoo: Path, tmp_path: Path, name: str) -> None:
    entry = zoo_entries(zoo)[name]
    rewritten = rewrite(zoo / entry["file"], device=DEVICE, out=tmp_path / "crossbars.onnx")
    model = check(rewritten)
    assert (
        len(crossbar_calls(model))
        == sum(rewritten.num_nodes.values())
        >= len(rewritten.inspection.scan.layers)
    )
    assert any("integer weights" in note for note in rewritten.to_dict()["notes"]) == ("_q" in name)
