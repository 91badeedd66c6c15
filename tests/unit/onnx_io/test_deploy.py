"""The deployed form computes what the file computes, and takes any weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.save import save_model, with_initializers, with_weights
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.session_template import template_bytes
from tests.exact_runs import exact_model, exact_options

Load = Callable[..., Network]
Arrays = Mapping[str, np.ndarray]

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def levels(*shape: int, dtype: type = np.int8, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    return (
        np.random.default_rng(seed).integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    )


def run(model: bytes | str, feeds: Arrays, weights: Arrays | None = None) -> list[np.ndarray]:
    """Run a model; a file is run without optimisation, which would round activations before weights
    of 8 bits (MatMulNBits).
    """
    options = exact_options()
    if isinstance(model, str):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
    return list(
        ort.InferenceSession(exact_model(model), options, providers=["CPUExecutionProvider"]).run(
            None, dict(feeds)
        )
    )


def deployed_of(network: Network) -> Deployed:
    deployed = deploy(network, scan_layers(network), widen=False)
    onnx.checker.check_model(deployed.model, full_check=True)
    for tensor in deployed.model.graph.initializer:
        if tensor.name in deployed.weight_names:
            assert tensor.data_type == onnx.TensorProto.FLOAT
            assert tuple(tensor.dims) == deployed.weight_shapes[tensor.name]
    return deployed


def moved(deployed: Deployed, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return other values for the stored weights."""
    values = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in deployed.model.graph.initializer
    }
    return {
        name: (values[name] * 1.25 + normal(*values[name].shape, seed=index)).astype(np.float32)
        for index, name in enumerate(names or deployed.weight_names)
    }


def check_form(network: Network, feeds: Arrays, *, atol: float = 0.0) -> Deployed:
    """Check that own weights give the file's outputs, that a template takes other weights, and that
    every weight matters.
    """
    deployed = deployed_of(network)
    plain = run(str(network.path), feeds)
    own = run(deployed.model.SerializeToString(), feeds)
    for expected, got in zip(plain, own, strict=True):
        np.testing.assert_allclose(
            got.astype(np.float64), expected.astype(np.float64), rtol=2e-6, atol=atol
        )  # fused against unfused float32
    other = moved(deployed)
    assert other
    for expected, got in zip(
        run(with_weights(deployed, other).SerializeToString(), feeds),
        run(template_bytes(deployed), feeds, other),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)
    for name in deployed.weight_names:
        changed = run(with_weights(deployed, moved(deployed, [name])).SerializeToString(), feeds)
        assert any((a != b).any() for a, b in zip(own, changed, strict=True)), name
    return deployed


def test_a_float_network(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[N, 1, 5, 5] x) => (y) { c = Conv(x, W) b = BatchNormalization(c, s, s, s, s) f"
        " = Flatten(b) y = Gemm(f, F) }",
        W=normal(2, 1, 3, 3),
        F=normal(18, 3),
        s=np.asarray([1, 2], np.float32),
    )
    deployed = check_form(network, {"x": normal(3, 1, 5, 5)})
    assert deployed.weight_names == ("W", "F")
    assert (deployed.batch, deployed.batch_size) == ("dynamic", None)


def test_weights_are_in_place_before_optimisation(load: Load) -> None:
    """The trap: an override that comes after constant folding is ignored where the weight was
    fused, without a warning.
    """
    network = load(
        HEAD
        + "g (float[N, 4, 5, 5] x) => (y) { t = Transpose(T) W = Identity(t) c = Conv(x, W) y ="
        " BatchNormalization(c, s, s, s, s) }",
        T=normal(3, 3, 4, 2),
        s=np.asarray([1, 2], np.float32),
    )
    deployed = check_form(network, {"x": normal(2, 4, 5, 5)})
    assert deployed.weight_names == ("T",)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_networks_of_other_float_types(load: Load, dtype: type) -> None:
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    network = load(
        HEAD
        + f"g ({kind}[N, 4] x) => (y) {{ h = MatMul(x, W) t = Transpose(V) y = MatMul(h, t) }}",
        W=normal(4, 3).astype(dtype),
        V=normal(2, 3).astype(dtype),
    )
    deployed = check_form(network, {"x": normal(5, 4).astype(dtype)})
    assert [node.op_type for node in deployed.model.graph.node].count("Cast") == 2


def test_float16_weights_that_the_file_casts_itself(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 4] x) => (y) { w = Cast <to = 1> (W) y = MatMul(x, w) }",
        W=normal(4, 3).astype(np.float16),
    )
    check_form(network, {"x": normal(5, 4)})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_dequantised_weights(load: Load, dtype: type, per_channel: bool) -> None:
    size = (3,) if per_channel else ()
    network = load(
        HEAD
        + "g (float[N, 4] x) => (y) { w = DequantizeLinear <axis = 0> (W, s, z) t = Transpose(w) y"
        " = MatMul(x, t) }",
        W=levels(3, 4, dtype=dtype),
        s=np.abs(normal(*size)) / 100,
        z=np.full(size, 5, dtype),
    )
    deployed = check_form(network, {"x": normal(5, 4)})
    assert [node.op_type for node in deployed.model.graph.node] == ["Transpose", "MatMul"]
    assert {tensor.name for tensor in deployed.model.graph.initializer} == {"W"}


def test_a_view_before_the_dequantiser(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[N, 4] x) => (y) { v = Transpose(W) w = DequantizeLinear <axis = 1> (v, s) y ="
        " MatMul(x, w) }",
        W=levels(3, 4),
        s=np.asarray([0.5, 0.25, 0.125], np.float32),
    )
    check_form(network, {"x": normal(5, 4)})


def test_float16_scales(load: Load) -> None:
    text = """<ir_version: 9, opset_import: ["": 19]> g (float16[N, 4] x) => (float16[N, 3] y) { w = DequantizeLinear(W, s) y = MatMul(x, w) }"""  # noqa: E501
    check_form(
        load(text, W=levels(4, 3), s=np.asarray(0.01, np.float16)),
        {"x": normal(5, 4).astype(np.float16)},
    )


def test_short_integers_in_blocks(load: Load) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N, 4] x) => (y) {
    w = DequantizeLinear <axis = 0, block_size = 2> (W, s) y = MatMul(x, w) }"""
    values = np.random.default_rng(0).integers(-8, 8, (4, 3)).astype(ml_dtypes.int4)
    check_form(load(text, W=values, s=np.abs(normal(2, 3))), {"x": normal(5, 4)})


@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (4, 1, 3, 3)])
def test_qlinear_conv(load: Load, shape: tuple[int, ...]) -> None:
    out, groups = shape[0], (1 if shape[1] == 2 else 2)
    scale = 0.02
    network = load(
        HEAD
        + f"""g (float[N, 2, 6, 6] x) => (y) {{ q = QuantizeLinear(x, s, z)
        c = QLinearConv <group = {groups}, pads = [1, 1, 1, 1], strides = [2, 2]> (q, s, z, W, ws, wz, ys, yz, B) y = DequantizeLinear(c, ys, yz) }}""",  # noqa: E501
        s=np.asarray(0.03, np.float32),
        z=np.asarray(120, np.uint8),
        W=levels(*shape),
        ws=np.linspace(0.002, 0.004, out, dtype=np.float32),
        wz=np.zeros(out, np.int8),
        ys=np.asarray(scale, np.float32),
        yz=np.asarray(128, np.uint8),
        B=np.random.default_rng(1).integers(-9000, 9000, out).astype(np.int32),
    )
    check_form(
        network, {"x": normal(3, 2, 6, 6)}, atol=1.001 * scale
    )  # one step of the output quantiser: rounding of ties


def test_qlinear_matmul_with_the_weight_on_either_side(load: Load) -> None:
    arrays = {
        "s": np.asarray(0.03, np.float32),
        "z": np.asarray(120, np.uint8),
        "ys": np.asarray(0.05, np.float32),
        "yz": np.asarray(99, np.uint8),
        "ws": np.asarray(0.004, np.float32),
        "wz": np.asarray(7, np.int8),
        "W": levels(4, 3),
        "V": levels(2, 4, dtype=np.uint8),
        "vz": np.asarray(7, np.uint8),
    }
    right = (
        "q = QuantizeLinear(x, s, z) c = QLinearMatMul(q, s, z, W, ws, wz, ys, yz) y ="
        " DequantizeLinear(c, ys, yz)"
    )
    network = load(
        HEAD + f"g (float[N, 4] x) => (y) {{ {right} }}",
        **{name: value for name, value in arrays.items() if name not in ("V", "vz")},
    )
    check_form(network, {"x": normal(5, 4)}, atol=0.0501)  # one step of the output quantiser
    left = (
        "q = QuantizeLinear(x, s, z) c = QLinearMatMul(V, ws, vz, q, s, z, ys, yz) y ="
        " DequantizeLinear(c, ys, yz)"
    )
    network = load(
        HEAD + f"g (float[4, N] x) => (y) {{ {left} }}",
        **{name: value for name, value in arrays.items() if name not in ("W", "wz")},
    )
    check_form(network, {"x": normal(4, 5)}, atol=0.0501)


@pytest.mark.parametrize("quantised_output", [True, False])
@pytest.mark.parametrize("transposed", [0, 1])
def test_qgemm(load: Load, quantised_output: bool, transposed: int) -> None:
    tail = (
        "c = com.microsoft.QGemm <%s> (q, s, z, W, ws, wz, B, s, z) y = DequantizeLinear(c, s, z)"
    )
    if not quantised_output:
        tail = "y = com.microsoft.QGemm <%s> (q, s, z, W, ws, wz, B)"
    network = load(
        HEAD + "g (float[N, 4] x) => (float[N, 3] y) { q = QuantizeLinear(x, s, z)"
        f" {tail % f'transB = {transposed}, alpha = 1.5'} }}",
        s=np.asarray(0.03, np.float32),
        z=np.asarray(120, np.uint8),
        W=levels(3, 4) if transposed else levels(4, 3),
        ws=np.asarray([0.004, 0.005, 0.006], np.float32),
        wz=np.zeros(3, np.int8),
        B=np.asarray([100, -200, 300], np.int32),
    )
    check_form(
        network, {"x": normal(5, 4)}, atol=0.0301 if quantised_output else 1e-5
    )  # one output step; float32 sum of 4 products


@pytest.mark.parametrize("zero", [np.asarray(3, np.uint8), np.asarray([1, 2, 3], np.uint8)])
def test_integer_matmul_between_dynamic_quantisers(load: Load, zero: np.ndarray) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x) => (float[N, 3] y) { q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, W, z, wz) f = Cast <to = 1> (i)
        t = Mul(s, ws) y = Mul(f, t) }""",  # noqa: E501
        W=levels(4, 3, dtype=np.uint8),
        wz=zero,
        ws=np.asarray(0.01, np.float32),
    )
    deployed = check_form(
        network, {"x": normal(5, 4)}, atol=1e-4
    )  # products of 8 bits are exact in float32; order of scaling is the same
    assert "DynamicQuantizeLinear" in deployed.notes[0]


def test_integer_results_that_are_used_as_integers_are_rounded(load: Load) -> None:
    network = load(
        HEAD + "g (uint8[N, 4] x) => (int32[N, 3] y) { y = MatMulInteger(x, W) }", W=levels(4, 3)
    )
    deployed = check_form(network, {"x": levels(5, 4, dtype=np.uint8)})
    assert [node.op_type for node in deployed.model.graph.node] == [
        "Cast",
        "MatMul",
        "Round",
        "Cast",
    ]


def test_conv_integer(load: Load) -> None:
    network = load(
        HEAD
        + """g (uint8[N, 2, 6, 6] x) => (float[N, 3, A, B] y) <uint8 z = {9}> {
        i = ConvInteger <pads = [1, 1, 1, 1], strides = [2, 2]> (x, W, z) y = Cast <to = 1> (i) }""",  # noqa: E501
        W=levels(3, 2, 3, 3),
    )
    check_form(network, {"x": levels(3, 2, 6, 6, dtype=np.uint8)})


@pytest.mark.parametrize("bias", ["", ", b"])
def test_dynamic_quantize_matmul(load: Load, bias: str) -> None:
    network = load(
        HEAD
        + "g (float[N, 4] x) => (float[N, 3] y) { y = com.microsoft.DynamicQuantizeMatMul(x, W,"
        f" ws, wz{bias}) }}",
        W=levels(4, 3),
        ws=np.asarray([0.01, 0.02, 0.03], np.float32),
        wz=np.asarray([1, 2, 3], np.int8),
        b=normal(3),
    )
    check_form(network, {"x": normal(5, 4)}, atol=1e-5)  # float32 sum of 4 products


def test_a_tied_embedding_keeps_its_own_copy(load: Load) -> None:
    network = load(
        HEAD + "g (int64[N] i) => (y, e) { e = Gather(W, i) t = Transpose(W) y = MatMul(e, t) }",
        W=normal(7, 4),
    )
    deployed = check_form(network, {"i": np.asarray([0, 6, 3])})
    feeds = {"i": np.asarray([0, 6, 3])}
    changed = run(with_weights(deployed, moved(deployed)).SerializeToString(), feeds)
    np.testing.assert_array_equal(changed[1], run(str(network.path), feeds)[1])


def test_a_digital_reader_behind_a_dequantiser_keeps_the_original(load: Load) -> None:
    network = load(
        HEAD
        + "g (int64[N] i) => (y, e) { w = DequantizeLinear(W, s) t = Transpose(w) e = Gather(w, i)"
        " y = MatMul(e, t) }",
        W=levels(7, 4),
        s=np.asarray(0.01, np.float32),
    )
    deployed = check_form(network, {"i": np.asarray([0, 6, 3])})
    assert [node.op_type for node in deployed.model.graph.node].count("DequantizeLinear") == 1


def test_a_weight_that_is_an_output_too(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[N, 4] x) => (y, int8[4, 3] W) { w = DequantizeLinear(W, s) y = MatMul(x, w) }",
        W=levels(4, 3),
        s=np.asarray(0.01, np.float32),
    )
    check_form(network, {"x": normal(5, 4)})


def test_weights_in_branches(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 2] x, bool c) => (float[N, 2] y) {
        y = If (c) <then_branch = a () => (float[N, 2] t) { w = DequantizeLinear(W, s) t = MatMul(x, w) },
                    else_branch = b () => (float[N, 2] e) { e = MatMul(x, V) }> }""",  # noqa: E501
        W=levels(2, 2),
        V=normal(2, 2),
        s=np.asarray(0.01, np.float32),
    )
    deployed = deployed_of(network)
    for condition, name in ((True, "W"), (False, "V")):
        feeds = {"x": normal(3, 2), "c": np.asarray(condition)}
        own = run(deployed.model.SerializeToString(), feeds)
        np.testing.assert_array_equal(own[0], run(str(network.path), feeds)[0])
        other = moved(deployed, [name])
        changed = run(template_bytes(deployed), feeds, {**_values(deployed), **other})
        assert (changed[0] != own[0]).any()
        np.testing.assert_array_equal(
            changed[0], run(with_weights(deployed, other).SerializeToString(), feeds)[0]
        )


def _values(deployed: Deployed) -> dict[str, np.ndarray]:
    tensors = {tensor.name: tensor for tensor in deployed.model.graph.initializer}
    return {name: onnx.numpy_helper.to_array(tensors[name]) for name in deployed.weight_names}


def test_weights_in_loops(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[2, 2] x) => (float[2, 2] y) <int64 n = {3}, bool yes = {1}> {
        y = Loop (n, yes, x) <body = b (int64 i, bool ci, float[2, 2] h) => (bool co, float[2, 2] k) {
            co = Identity(ci) m = MatMul(h, W) k = Tanh(m) }> }""",  # noqa: E501
        W=normal(2, 2),
    )
    check_form(network, {"x": normal(2, 2)})


def test_no_batch_axis(load: Load) -> None:
    network = load(HEAD + "g (float[4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 3))
    deployed = deploy(network, scan_layers(network), has_batch=False)
    assert (deployed.batch, deployed.batch_size, deployed.inputs[0].shape) == ("none", None, (4,))


def test_weights_given_must_fit(load: Load) -> None:
    deployed = deployed_of(
        load(HEAD + "g (float[N, 4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 3))
    )
    for wrong in ({"V": normal(4, 3)}, {"W": normal(3, 4)}, {"W": normal(4, 3).astype(np.float64)}):
        with pytest.raises(ValueError, match="must be stored, float32 and of shape"):
            with_weights(deployed, wrong)


def test_initializers_given_must_fit(load: Load) -> None:
    network = load(HEAD + "g (float[N, 4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 3))
    for wrong in ({"V": normal(4, 3)}, {"W": normal(3, 4)}, {"W": normal(4, 3).astype(np.float64)}):
        with pytest.raises(ValueError, match="must be stored with the same shape and type, got"):
            with_initializers(network, wrong)


def test_saved_models_load_again(load: Load, tmp_path: Path) -> None:
    deployed = deployed_of(
        load(HEAD + "g (float[N, 4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 3))
    )
    other = moved(deployed)
    save_model(with_weights(deployed, other), tmp_path / "worst_case.onnx")
    assert [path.name for path in tmp_path.iterdir() if "worst" in path.name] == ["worst_case.onnx"]
    np.testing.assert_array_equal(
        load_network(tmp_path / "worst_case.onnx").initializers["W"], other["W"]
    )


def test_a_failed_save_leaves_nothing(load: Load, tmp_path: Path) -> None:
    deployed = deployed_of(
        load(HEAD + "g (float[N, 4] x) => (y) { y = MatMul(x, W) }", W=normal(4, 3))
    )
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        save_model(deployed.model, tmp_path / "taken")
    assert not list(tmp_path.glob(".taken*"))
