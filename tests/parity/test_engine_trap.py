"""Weights must be in place before onnxruntime optimises the graph; the obvious way to set them is
not, and says nothing.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from cimrobust.engine.sessions import open_session, session_options

CONV_BN = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[N, 1, 8, 8] x) => (float[N, 4, 8, 8] y)
<float[4, 1, 3, 3] w,
 float[4] s = {0.5, 1.5, 2, 1}, float[4] b = {0.1, -0.2, 0.3, 0}, float[4] m = {1, 0, -1, 0.5}, float[4] v = {0.5, 2, 1, 0.25}>
{
    c = Conv<pads = [1, 1, 1, 1]>(x, w)
    y = BatchNormalization(c, s, b, m, v)
}
"""  # noqa: E501
TRANSPOSE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[N, 6] x) => (float[N, 5] y) <float[5, 6] w> { t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t) }
"""  # noqa: E501
RESHAPE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[N, 6] x) => (float[N, 5] y) <float[5, 6] w, int64[2] shape = {6, 5}> { t = Reshape(w, shape) y = MatMul(x, t) }
"""  # noqa: E501
CASES = [
    pytest.param(CONV_BN, (4, 1, 3, 3), (3, 1, 8, 8), id="conv-bn"),
    pytest.param(TRANSPOSE, (5, 6), (3, 6), id="transpose"),
    pytest.param(RESHAPE, (5, 6), (3, 6), id="reshape"),
]


def _model(text: str, weights: np.ndarray) -> onnx.ModelProto:
    """Return the model with the weights saved inside."""
    model = parser.parse_model(text)
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend([numpy_helper.from_array(weights, "w"), *kept])
    for value in [value for value in model.graph.input if value.name == "w"]:
        model.graph.input.remove(value)
    return model


def _template(text: str, weights: np.ndarray) -> bytes:
    """Return the model with the weights marked as external data that is handed over in memory."""
    model = _model(text, np.zeros_like(weights))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "cimrobust"), ("offset", "0"), ("length", str(weights.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


def _weights(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape).astype(np.float32) for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize(("text", "weight_shape", "input_shape"), CASES)
def test_weights_handed_over_before_optimisation_are_exact(
    text: str, weight_shape: tuple[int, ...], input_shape: tuple[int, ...]
) -> None:
    feed = {"x": np.random.default_rng(1).normal(size=input_shape).astype(np.float32)}
    for weights in _weights(weight_shape):
        saved = open_session(_model(text, weights).SerializeToString()).run(["y"], feed)[0]
        ours = open_session(_template(text, weights), weights={"w": weights}).run(["y"], feed)[0]
        np.testing.assert_array_equal(ours, saved)


@pytest.mark.parametrize(("text", "weight_shape", "input_shape"), CASES)
def test_add_initializer_on_a_model_with_weights_is_silently_ignored(
    text: str, weight_shape: tuple[int, ...], input_shape: tuple[int, ...]
) -> None:
    """The trap: no error, no warning, and the output of the unchanged network. Should this fail,
    onnxruntime has mended it.
    """
    feed = {"x": np.random.default_rng(1).normal(size=input_shape).astype(np.float32)}
    old, new = _weights(weight_shape)
    options = session_options()
    value = ort.OrtValue.ortvalue_from_numpy(new)
    options.add_initializer("w", value)
    trapped = ort.InferenceSession(_model(text, old).SerializeToString(), options).run(["y"], feed)[
        0
    ]
    expected = open_session(_model(text, new).SerializeToString()).run(["y"], feed)[0]
    unchanged = open_session(_model(text, old).SerializeToString()).run(["y"], feed)[0]
    assert np.abs(trapped - expected).max() > 1.0
    np.testing.assert_allclose(trapped, unchanged, atol=1e-5)
