"""Networks in bfloat16: float32 with every result rounded, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]
HEAD = '<ir_version: 9, opset_import: ["": 17]> '
SHORT = ml_dtypes.bfloat16


def eighths(*shape: int, seed: int = 0) -> np.ndarray:
    """Return multiples of 1/8 that bfloat16 has; float32 adds products of them without rounding."""
    return (np.random.default_rng(seed).integers(-100, 101, shape) / 8).astype(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(SHORT).astype(np.float32)


def run(network: Network, **feed: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        network.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)[0]


def test_every_result_is_rounded_once(load: Load) -> None:
    w, b, x = eighths(6, 5), eighths(5, seed=1), eighths(4, 6, seed=2)
    network = load(
        HEAD + "g (bfloat16[N, 6] x) => (bfloat16[N, 5] y)"
        " { p = MatMul(x, W) s = Add(p, B) r = Relu(s) y = Mul(r, r) }",
        W=w.astype(SHORT),
        B=b.astype(SHORT),
    )
    products = rounded(x @ w)
    assert not np.array_equal(products, x @ w)
    behind = np.maximum(rounded(products + b), 0)
    np.testing.assert_array_equal(run(network, x=x), rounded(behind * behind))


def test_inputs_outputs_and_weights_are_float32_and_the_file_is_no_reference(load: Load) -> None:
    network = load(
        HEAD + "g (bfloat16[N, 6] x) => (bfloat16[N, 5] y) { y = MatMul(x, W) }",
        W=eighths(6, 5).astype(SHORT),
    )
    assert [value.dtype for value in (*network.inputs, *network.outputs)] == ["float32", "float32"]
    assert not network.runs_as_file
    assert any(
        "no arithmetic in bfloat16" in note and "rounded to bfloat16 (MatMul)" in note
        for note in network.notes
    )
    assert any("given and read as float32: 'x', 'y'" in note for note in network.notes)
    assert network.num_parameters == 30
    assert network.bfloat16_in_file == {"W"}
    (layer,) = scan_layers(network).layers
    np.testing.assert_array_equal(layer.values, eighths(6, 5))


def test_a_network_that_only_stores_in_bfloat16_is_left_as_it_is(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 6] x) => (float[N, 5] y) { w = Cast <to = 1> (W) y = MatMul(x, w) }",
        W=eighths(6, 5).astype(SHORT),
    )
    assert network.runs_as_file
    assert network.model.graph.initializer[0].data_type == onnx.TensorProto.BFLOAT16


@pytest.mark.parametrize(
    "nodes",
    ["h = Cast <to = 16> (x)", "one = Cast <to = 16> (x) h = CastLike(x, one)"],
)
def test_casts_round(load: Load, nodes: str) -> None:
    network = load(
        HEAD + f"g (float[N, 6] x) => (float[N, 5] y) {{ {nodes} p = MatMul(h, W)"
        " y = Cast <to = 1> (p) }",
        W=eighths(6, 5).astype(SHORT),
    )
    x = eighths(4, 6) + np.float32(2**-10)
    np.testing.assert_array_equal(run(network, x=x), rounded(rounded(x) @ eighths(6, 5)))


def test_types_in_attributes_and_bodies_become_float32(load: Load) -> None:
    network = load(
        HEAD
        + """g (bfloat16[N, 6] x, bool c) => (bfloat16[N, 6] y)
        {
            n = Shape(x)
            z = ConstantOfShape <value = bfloat16[1] {16448}> (n)
            e = EyeLike <dtype = 16> (W)
            h = MatMul(x, e)
            b = If (c) <
                then_branch = t () => (bfloat16[N, 6] a) { a = MatMul(h, W) },
                else_branch = f () => (bfloat16[N, 6] d) { d = Sub(h, z) }
            >
            y = Identity(b)
        }""",
        W=eighths(6, 6).astype(SHORT),
    )
    x = eighths(4, 6, seed=3)
    for chosen, expected in ((True, rounded(x @ eighths(6, 6))), (False, rounded(x - 3))):
        np.testing.assert_array_equal(run(network, x=x, c=np.asarray(chosen)), expected)


def test_sequences_become_sequences_of_float32(load: Load) -> None:
    network = load(
        HEAD + "g (bfloat16[N, 6] x) => (bfloat16[N, 5] y)"
        " { s = SequenceConstruct(x, x) i = Constant <value_int = 1> () h = SequenceAt(s, i)"
        " y = MatMul(h, W) }",
        W=eighths(6, 5).astype(SHORT),
    )
    x = eighths(4, 6, seed=4)
    np.testing.assert_array_equal(run(network, x=x), rounded(x @ eighths(6, 5)))


def test_external_data_in_bfloat16(tmp_path: Path) -> None:
    w = eighths(64, 32)
    (tmp_path / "net.data").write_bytes(w.astype(SHORT).tobytes())
    model = onnx.parser.parse_model(
        HEAD + "g (bfloat16[N, 64] x) => (bfloat16[N, 32] y) { y = MatMul(x, W) }"
    )
    tensor = model.graph.initializer.add(
        name="W", dims=w.shape, data_type=onnx.TensorProto.BFLOAT16,
        data_location=onnx.TensorProto.EXTERNAL,
    )  # fmt: skip
    tensor.external_data.add(key="location", value="net.data")
    onnx.save(model, tmp_path / "net.onnx")
    network = load_network(tmp_path / "net.onnx")
    x = eighths(3, 64, seed=5)
    np.testing.assert_array_equal(run(network, x=x), rounded(x @ w))


def test_a_tensor_of_unknown_type_is_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cimrobust.onnx_io.bfloat16._is_known", lambda kind: False)
    with pytest.raises(
        ModelNotCoveredError, match="the type of its output 'y' is not known, and other tensors are"
    ):
        load(
            HEAD + "g (bfloat16[N, 6] x) => (bfloat16[N, 5] y) { y = MatMul(x, W) }",
            W=eighths(6, 5).astype(SHORT),
        )


def test_weights_that_do_not_fit_as_float32_are_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cimrobust.onnx_io.memory_needs.available_memory", lambda: 500)
    with pytest.raises(
        ModelNotCoveredError,
        match="tensors of the model as float32 must fit into memory, got 576 bytes",
    ):
        load(
            HEAD + "g (bfloat16[N, 6] x) => (bfloat16[N, 6] y)"
            " { a = MatMul(x, A) b = MatMul(a, B) c = MatMul(b, C) y = MatMul(c, D) }",
            **{name: eighths(6, 6).astype(SHORT) for name in "ABCD"},
        )
