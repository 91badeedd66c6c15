"""A runtime that computes otherwise than its operators say is found, by the node; what rounding
explains is not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import cimrobust.certify.exact_arithmetic as arithmetic
import cimrobust.onnx_io.exposed as exposed
from cimrobust.available_memory import memory_limit
from cimrobust.certify.exact_arithmetic import check_arithmetic
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from tests.exact_integers import quantised, samples

FLOAT = """<ir_version: 8, opset_import: ["" : 17]> net (float[n, 6] x) => (float[n, 3] y)
    { h = Gemm <transB = 1> (x, w1, b1) r = Relu (h) s = Sigmoid (r) y = Gemm <transB = 1> (s, w2) }"""  # noqa: E501


def float_network(folder: Path, text: str = FLOAT) -> Network:
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(text)
    for name, shape in {"w1": (8, 6), "b1": (8,), "w2": (3, 8)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    onnx.save(model, folder / "net.onnx")
    return load_network(folder / "net.onnx")


def inputs(count: int = 8) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((count, 6)).astype(np.float32)}


def test_a_float_network_is_within_what_rounding_explains(tmp_path: Path) -> None:
    found = check_arithmetic(float_network(tmp_path), inputs(), {}, output="y")
    assert (found.reason, found.wrong, found.left_out) == (None, (), ())
    assert found.compared == 4
    assert 0 < found.share < 1


HALF = FLOAT.replace("float[", "float16[")


def half_network(folder: Path) -> tuple[Network, dict[str, np.ndarray]]:
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(HALF)
    for name, shape in {"w1": (8, 6), "b1": (8,), "w2": (3, 8)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float16), name)
        )
    onnx.save(model, folder / "net.onnx")
    return load_network(folder / "net.onnx"), {"x": inputs()["x"].astype(np.float16)}


def test_constants_that_float16_rounds_are_taken_as_they_are_rounded(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(-99, 99, (6, 3)).astype(np.int8)
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 19]> net (float[n, 6] x) => (float[n, 3] y)
        { h = DequantizeLinear (w, s) f = Cast <to = 1> (h) y = MatMul (x, f) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(levels, "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.float16(0.01), "s"))
    onnx.save(model, tmp_path / "net.onnx")
    found = check_arithmetic(load_network(tmp_path / "net.onnx"), inputs(), {}, output="y")
    assert (found.compared, found.wrong) == (1, ())


def test_rounding_of_double_to_float_is_rounding(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((6, 3))
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[n, 6] x) => (float[n, 3] y)
        { d = Cast <to = 11> (x) h = MatMul (d, w) y = Cast <to = 1> (h) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    found = check_arithmetic(load_network(tmp_path / "net.onnx"), inputs(), {}, output="y")
    assert (found.compared, found.wrong) == (3, ())


def test_rounding_to_float16_is_rounding(tmp_path: Path) -> None:
    network, feed = half_network(tmp_path)
    found = check_arithmetic(network, feed, {}, output="y")
    assert (found.reason, found.wrong, found.left_out) == (None, (), ())
    assert found.compared == 4


def test_a_sum_that_is_off_by_more_than_float16_rounds_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, feed = half_network(tmp_path)
    right = arithmetic.as_declared

    def wrong(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = right(model, given)
        values["y"] = values["y"] * np.float16(1.02)
        return values

    monkeypatch.setattr(arithmetic, "as_declared", wrong)
    (tensor,) = check_arithmetic(network, feed, {}, output="y").wrong
    assert tensor.operator == "Gemm"
    assert tensor.difference > tensor.allowed > 2.0**-11


def test_a_wrong_float_sum_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = float_network(tmp_path)
    right = arithmetic.as_declared

    def wrong(model: onnx.ModelProto, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = right(model, given)
        values["y"] = values["y"] * np.float32(1.00001)
        return values

    monkeypatch.setattr(arithmetic, "as_declared", wrong)
    found = check_arithmetic(network, inputs(), {}, output="y")
    assert [(tensor.operator, tensor.is_integer, tensor.is_product) for tensor in found.wrong] == [
        ("Gemm", False, False)
    ]
    assert found.wrong[0].difference > found.wrong[0].allowed > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("form", "operator"),
    [
        ("QOperator u8 s8", "QLinearConv"),
        ("QDQ u8 s8", "QuantizeLinear"),
        ("dynamic s8", "MatMulInteger"),
    ],
)
def test_saturated_products_are_found_by_their_nodes(
    form: str, operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The integers of a processor that saturates: those of the same file with weights cut to what
    16 bits hold.
    """
    network = load_network(quantised(form, tmp_path))
    right = exposed.with_outputs

    def saturating(model: onnx.ModelProto, names: tuple[str, ...]) -> bytes:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.int8 and values.ndim > 1:
                tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -60, 60), tensor.name))
        return right(changed, names)

    monkeypatch.setattr(arithmetic, "with_outputs", saturating)
    found = check_arithmetic(network, {"x": samples(4)}, {}, output="y")
    assert operator in {tensor.operator for tensor in found.wrong_products}
    assert max(tensor.difference for tensor in found.wrong_products) > 1


def test_a_large_network_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = float_network(tmp_path)
    monkeypatch.setattr(arithmetic, "MOST_PRODUCTS", 10)
    found = check_arithmetic(network, inputs(), {}, output="y")
    assert (found.num_samples, found.compared) == (0, 0)
    assert "more than the 10" in str(found.reason)


def test_a_network_whose_float64_form_does_not_fit_is_left_out_with_the_reason(
    tmp_path: Path,
) -> None:
    network = float_network(tmp_path)
    with memory_limit(1000):
        found = check_arithmetic(network, inputs(), {}, output="y")
    assert (found.num_samples, found.compared) == (0, 0)
    assert str(found.reason).endswith("GB of memory, and 0 GB may be taken")


def test_operators_without_a_derived_limit_are_named(tmp_path: Path) -> None:
    text = FLOAT.replace("Sigmoid (r)", "Hardmax (r)")
    found = check_arithmetic(float_network(tmp_path, text), inputs(), {}, output="y")
    assert found.left_out == (("Hardmax", 1),)
    assert found.compared == 3


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4"])
def test_levels_that_are_no_whole_bytes_are_compared_with_nothing(
    tmp_path: Path, kind: str
) -> None:
    """onnxruntime gives their bytes, which are no levels."""
    text = (
        FLOAT.replace("ir_version: 8", "ir_version: 10")
        .replace('"" : 17', '"" : 21')
        .replace(
            "h = Gemm <transB = 1> (x,",
            "q = QuantizeLinear (x, scale, zero) d = DequantizeLinear (q, scale, zero)"
            " h = Gemm <transB = 1> (d,",
        )
    )
    network_of = tmp_path / "net.onnx"
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(text)
    for name, shape in {"w1": (8, 6), "b1": (8,), "w2": (3, 8)}.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.3), "scale"))
    zero = onnx.helper.make_tensor("zero", getattr(onnx.TensorProto, kind), [], [0])
    model.graph.initializer.append(zero)
    onnx.save(model, network_of)
    found = check_arithmetic(load_network(network_of), inputs(), {}, output="y")
    assert found.wrong == ()
    assert found.reason is not None
    assert found.reason.startswith("no limit is derived for DequantizeLinear")


QUANTISED_SOFTMAX = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[n, 6] x) => (float[n, 6] y)
    <float s = {0.05}, uint8 z = {128}, float p = {0.00390625}, uint8 none = {0}> {
      q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
      m = Softmax <axis = 1> (d)
      r = QuantizeLinear (m, p, none) y = DequantizeLinear (r, p, none) }"""


def test_a_softmax_between_quantisers_is_named_as_left_out(tmp_path: Path) -> None:
    # onnxruntime makes one operator of the three, with a table of exponentials.
    onnx.save(onnx.parser.parse_model(QUANTISED_SOFTMAX), tmp_path / "net.onnx")
    found = check_arithmetic(load_network(tmp_path / "net.onnx"), inputs(), {}, output="y")
    assert found.wrong == ()
    assert "Softmax" in dict(found.left_out)
