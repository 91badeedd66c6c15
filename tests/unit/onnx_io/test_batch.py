"""Making a fixed batch axis symbolic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def check_widened(network: Network, *, num_batches: int = 3) -> Deployed:
    """Check that a widened network gives on a large batch what the file's own batches give."""
    deployed = deploy(network, scan_layers(network))
    assert deployed.batch == "widened"
    assert deployed.batch_size is None
    onnx.checker.check_model(deployed.model, full_check=True)
    parts = [
        {
            spec.name: normal(*(dim for dim in spec.shape or () if isinstance(dim, int)), seed=seed)
            for spec in network.inputs
        }
        for seed in range(num_batches)
    ]
    whole = run(
        deployed.model, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )
    for index, value in enumerate(whole):
        expected = np.concatenate([run(network.model, part)[index] for part in parts])
        np.testing.assert_allclose(
            value, expected, rtol=1e-5, atol=1e-6
        )  # float32 sums in another blocking
    return deployed


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(x, W)",
        "r = Reshape(x, s_1_12) y = MatMul(r, V)",
        "r = Reshape(x, s_12) y = MatMul(r, V)",
        "r = Reshape(x, s_1_m1) y = MatMul(r, V)",
        "r = Reshape(x, s_3_4) m = MatMul(r, W) y = Reshape(m, s_1_6)",
        (
            "t = Transpose <perm = [1, 0, 2]> (x) r = Reshape(t, s_3_4) m = MatMul(r, W) u ="
            " Reshape(m, s_3_1_2) y = Transpose <perm = [1, 0, 2]> (u)"
        ),
        "e = Expand(x, s_1_3_4) y = MatMul(e, W)",
        "f = Flatten(x) y = MatMul(f, V)",
        "c = Concat <axis = 1> (k, x) y = MatMul(c, W)",
    ],
)
def test_constants_that_tie_the_batch_are_rewritten(load: Load, body: str) -> None:
    shapes = (
        "int64[2] s_1_12 = {1, 12}, int64[1] s_12 = {12}, int64[2] s_1_m1 = {1, -1}, int64[2] s_3_4"
        " = {3, 4}, int64[2] s_1_6 = {1, 6}, "
    )
    shapes += "int64[3] s_3_1_2 = {3, 1, 2}, int64[3] s_1_3_4 = {1, 3, 4}"
    if "s_12)" in body:
        body = body.replace("y = MatMul(r, V)", "q = Reshape(r, s_1_12) y = MatMul(q, V)")
    network = load(
        HEAD + f"g (float[1, 3, 4] x) => (y) <{shapes}> {{ {body} }}",
        W=normal(4, 2),
        V=normal(12, 2),
        k=normal(1, 1, 4),
    )
    deployed = check_widened(network)
    assert deployed.inputs[0].shape == ("batch", 3, 4)
    assert deployed.outputs[0].shape is not None
    assert deployed.outputs[0].shape[0] == "batch"


def test_attention_with_heads_in_the_batch(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[1, 3, 4] x) => (y) <int64[3] heads = {3, 2, 2}, int64[2] rows = {3, 4}, int64[3] back = {3, 1, 4}> {
        t = Transpose <perm = [1, 0, 2]> (x) q = MatMul(t, W) h = Reshape(q, heads) a = Transpose <perm = [1, 0, 2]> (h)
        b = Transpose <perm = [0, 2, 1]> (a) s = MatMul(a, b) p = Softmax(s) o = MatMul(p, a) c = Transpose <perm = [1, 0, 2]> (o)
        r = Reshape(c, rows) m = MatMul(r, V) u = Reshape(m, back) y = Transpose <perm = [1, 0, 2]> (u) }""",  # noqa: E501
        W=normal(4, 4),
        V=normal(4, 4),
    )
    check_widened(network)


def test_a_batch_of_several(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[4, 3, 4] x) => (y) <int64[2] s = {4, 12}> { r = Reshape(x, s) y = MatMul(r,"
        " V) }",
        V=normal(12, 2),
    )
    check_widened(network)


def test_initial_states_are_repeated(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[1, 3, 4] x) => (y) <int64[2] s = {1, 2}> { t = Transpose <perm = [1, 0, 2]> (x)
        a, h = GRU <hidden_size = 2> (t, W, R, , , h0) y = Reshape(h, s) }""",  # noqa: E501
        W=normal(1, 6, 4),
        R=normal(1, 6, 2),
        h0=normal(1, 1, 2),
    )
    deployed = check_widened(network)
    assert any("repeated once a sample" in note for note in deployed.notes)


def test_several_inputs_and_outputs(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[1, 4] a, float[1, 4] b) => (y, z) <int64[1] s = {2}> { c = Concat <axis = 1>"
        " (a, b) y = MatMul(c, W) z = Relu(y) }",
        W=normal(8, 2),
    )
    check_widened(network)


def test_a_network_that_truly_needs_its_batch_stays_fixed(load: Load) -> None:
    network = load(
        HEAD + "g (float[2, 4] x) => (y) { t = Transpose(x) m = MatMul(t, W) y = MatMul(V, m) }",
        W=normal(2, 2),
        V=normal(2, 4),
    )
    deployed = deploy(network, scan_layers(network))
    assert (deployed.batch, deployed.batch_size) == ("fixed", 2)
    assert deployed.inputs[0].shape == (2, 4)


def test_samples_that_share_a_quantisation_range_are_not_widened(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[1, 4] x) => (float[1, 3] y) { y = com.microsoft.DynamicQuantizeMatMul(x, W,"
        " s) }",
        W=np.ones((4, 3), np.int8),
        s=np.asarray(0.1, np.float32),
    )
    assert deploy(network, scan_layers(network)).batch == "fixed"


def test_shapes_are_followed_through_quantised_operators(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[1, 3, 4] x) => (float[1, 2] y) <float s = {0.1}, uint8 z = {128}, int64[2] r = {1, 12}> {
        q = QuantizeLinear(x, s, z) a = com.microsoft.QLinearAdd(q, s, z, q, s, z, s, z) f = Reshape(a, r) d = DequantizeLinear(f, s, z)
        y = MatMul(d, W) }""",  # noqa: E501
        W=normal(12, 2),
    )
    check_widened(network)


def test_widening_can_be_turned_off(load: Load) -> None:
    network = load(HEAD + "g (float[1, 4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 2))
    deployed = deploy(network, scan_layers(network), widen=False)
    assert (deployed.batch, deployed.batch_size, deployed.inputs[0].shape) == ("fixed", 1, (1, 4))


@pytest.mark.parametrize(
    ("shape", "batch"), [("[N, 4]", "dynamic"), ("", "dynamic"), ("[1, 4]", "fixed")]
)
def test_the_kind_of_batch(load: Load, shape: str, batch: str) -> None:
    network = load(HEAD + f"g (float{shape} x) => (y) {{ y = Relu(x) }}")
    assert deploy(network, scan_layers(network), widen=False).batch == (batch if shape else "none")
