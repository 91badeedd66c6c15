"""Which initializers beside stored weights may be trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.trainable import DigitalParameters, digital_parameters

TEXT = """
<ir_version: 8, opset_import: ["" : 15]>
net (float[N, 4] x) => (float[N, 3] y, float[N, 2] aside)
<float[4, 5] w1, float[5] b1, float[5] gain, float[5] shift, float[5] mean, float[5] variance, float[5] shared, float[5, 3] w2, float[3] b2, float[5, 2] w3, float[2] b3> {
  h = MatMul(x, w1)
  same = Identity(h)
  a = Add(b1, same)
  n = BatchNormalization(a, gain, shift, mean, variance)
  s = Add(n, shared)
  m = Mul(s, shared)
  y = Gemm(m, w2, b2)
  aside = Gemm(m, w3, b3)
}
"""  # noqa: E501


def found(tmp_path: Path, text: str = TEXT, output: str = "y") -> DigitalParameters:
    model = parser.parse_model(text)
    random = np.random.default_rng(0)
    for value in model.graph.value_info:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = np.asarray((100 if kind == np.int8 else 1) * random.random(shape)).astype(kind)
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    onnx.save(model, tmp_path / "m.onnx")
    network = load_network(tmp_path / "m.onnx")
    return digital_parameters(deploy(network, scan_layers(network)), output)


def test_biases_are_what_is_added_to_products_and_read_for_nothing_else(tmp_path):
    assert set(found(tmp_path).biases) == {"b1", "b2"}
    assert set(found(tmp_path, output="aside").biases) == {"b1", "b3"}


def test_bias_that_is_read_elsewhere_is_left_alone(tmp_path):
    assert set(found(tmp_path, TEXT.replace("m = Mul(s, shared)", "m = Mul(s, b1)")).biases) == {
        "b2"
    }


RESHAPED = """
<ir_version: 8, opset_import: ["" : 15]>
net (float[N, 4] x) => (float[N, 6] y)
<float[4, 6] w1, float[2, 3] b1, float[6, 6] w2, float[1, 6] b2, float[6, 6] w3, float[6] b3, float[6, 6] w4, float[6] b4, float[6, 6] w5, float[6] b5, int64[1] all = {-1}> {
  h1 = MatMul(x, w1)
  flat = Reshape(b1, all)
  a1 = Add(flat, h1)
  copy = Identity(b2)
  row = Squeeze(copy)
  a2 = Gemm(a1, w2, row)
  h3 = MatMul(a2, w3)
  twice = Identity(b3)
  a3 = Add(h3, twice)
  m3 = Mul(a3, twice)
  h4 = MatMul(m3, w4)
  other = Sqrt(b4)
  a4 = Add(h4, other)
  h5 = MatMul(a4, w5)
  whole = Cast<to = 7>(b5)
  back = Cast<to = 1>(whole)
  y = Add(h5, back)
}
"""  # noqa: E501


def test_biases_in_another_shape_are_found_unless_something_else_reads_or_changes_them(tmp_path):
    assert set(found(tmp_path, RESHAPED).biases) == {"b1", "b2"}


def test_normalisations_are_found_with_what_they_read(tmp_path):
    (norm,) = found(tmp_path).normalisations
    assert (norm.data, norm.scale, norm.shift, norm.mean, norm.variance) == (
        "a",
        "gain",
        "shift",
        "mean",
        "variance",
    )


def test_digital_copies_name_the_weight_they_are_of(tmp_path):
    read_twice = TEXT.replace(
        "m = Mul(s, shared)",
        "c = ReduceSum<keepdims = 0>(w2)\n  z = Mul(s, c)\n  m = Mul(z, shared)",
    )
    assert found(tmp_path, read_twice).copies == {"w2.digital": "w2"}


DYNAMIC = """
<ir_version: 8, opset_import: ["" : 15]>
net (float[N, 4] x) => (float[N, 5] y) <int8[4, 5] w1, float s1, float[5] b1> {
  q, s, z = DynamicQuantizeLinear(x)
  h = MatMulInteger(q, w1, z)
  c = Cast<to = 1>(h)
  f = Mul(s, s1)
  g = Mul(c, f)
  y = Add(g, b1)
}
"""

ATTENTION = """
<ir_version: 8, opset_import: ["" : 15]>
net (float[N, 3, 4] x) => (float[N, 3, 4] y) <float[4, 4] w1, float[4] b1, float scale, float[3, 3] mask, float[3, 3] other> {
  p = MatMul(x, w1)
  k = Add(p, b1)
  t = Transpose<perm = [0, 2, 1]>(k)
  m = MatMul(k, t)
  n = Mul(m, scale)
  o = Add(n, mask)
  a = Softmax(o)
  d = MatMul(k, t)
  e = Add(d, other)
  v = Add(a, e)
  y = MatMul(v, k)
}
"""  # noqa: E501


def test_biases_behind_the_scale_of_a_product_of_integers_are_found(tmp_path):
    assert set(found(tmp_path, DYNAMIC).biases) == {"b1"}


def test_masks_of_products_of_data_are_no_biases(tmp_path):
    assert set(found(tmp_path, ATTENTION).biases) == {"b1"}
