"""From the trained twin to the file: float, tied, integer and half-precision weights; onnxruntime
computes what was trained.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from cimrobust.errors import ModelNotCoveredError, UsageError
from cimrobust.onnx_io.write_back import write_back
from cimrobust.progress import NullProgress
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.parameters import check_changed, stored_integers
from cimrobust.training.training_job import make_step
from tests.exact_runs import exact_model, exact_options
from tests.unit.training.conftest import MLP, clusters, dataset, quick, weights_of_mlp

QDQ = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <int8[6, 16] w1, float s1, int8 z1, float[16] b1, int8[16, 4] w2, float[4] s2, int8[4] z2> {
  d1 = DequantizeLinear(w1, s1, z1)
  h = MatMul(x, d1)
  a = Add(h, b1)
  r = Relu(a)
  d2 = DequantizeLinear<axis = 1>(w2, s2, z2)
  y = MatMul(r, d2)
}
"""  # noqa: E501

QLINEAR = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float sx, int8 zx, int8[6, 4] w1, float s1, int8 z1, float sy, int8 zy> {
  q = QuantizeLinear(x, sx, zx)
  p = QLinearMatMul(q, sx, zx, w1, s1, z1, sy, zy)
  y = DequantizeLinear(p, sy, zy)
}
"""  # noqa: E501

AT_RUN_TIME = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 4] w1, float s1, int8 z1> {
  q = QuantizeLinear(w1, s1, z1)
  d = DequantizeLinear(q, s1, z1)
  y = MatMul(x, d)
}
"""

TIED = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 6] y) <float[6, 6] w1, float[6] b1, int64[2] rows> {
  h = MatMul(x, w1)
  a = Add(h, b1)
  r = Relu(a)
  t = Transpose<perm = [1, 0]>(w1)
  g = MatMul(r, t)
  e = Gather(w1, rows)
  m = ReduceMean<axes = [0], keepdims = 1>(e)
  y = Add(g, m)
}
"""


def integers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-100, 101, shape).astype(np.int8)


def qdq_weights() -> dict[str, np.ndarray]:
    return {
        "w1": integers(1, 6, 16),
        "s1": np.float32(0.006),
        "z1": np.int8(0),
        "b1": np.full(16, 0.1, np.float32),
        "w2": integers(2, 16, 4),
        "s2": np.array([0.005, 0.006, 0.004, 0.007], np.float32),
        "z2": np.array([0, 3, -2, 0], np.int8),
    }


def trained(session):
    job = session.job(recipe_of("a-trice").method(), quick())
    return job, train(job, session.parameters, progress=NullProgress()).parameters


def export(session, parameters, tmp_path):
    """Write the file; return its session and its tensors."""
    values, levels = stored_integers(session.trainable, parameters)
    check_changed(
        {
            **session.parameters.to_numpy(),
            **stored_integers(session.trainable, session.parameters)[1],
        },
        {**values, **levels},
    )
    write_back(session.runtime.network.path, tmp_path / "out.onnx", values, levels)
    model = onnx.load(tmp_path / "out.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    # Optimised, a product with dequantised weights is computed on quantised activations, which the
    # file does not ask for.
    options = exact_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(exact_model(tmp_path / "out.onnx"), options), tensors


def twin_rows(session, job, parameters, *, quantised: bool) -> np.ndarray:
    step = make_step(
        job, parameters, job.validation, progress=0.5, generator=torch.Generator(), memory={}
    )
    with torch.no_grad():
        if quantised:
            return step.logits().numpy()
        weights = {**session.network.digital(parameters), **session.network.stored(parameters)}
        return session.network.logits(weights, job.validation).numpy()


@pytest.mark.parametrize(
    ("text", "weights", "quantised", "atol"),
    [
        (MLP, weights_of_mlp(), False, 1e-5),
        (QDQ, qdq_weights(), True, 1e-5),
        (
            QLINEAR,
            {
                "sx": np.float32(0.05),
                "zx": np.int8(0),
                "w1": integers(3, 6, 4),
                "s1": np.float32(0.01),
                "z1": np.int8(0),
                "sy": np.float32(0.05),
                "zy": np.int8(1),
            },
            True,
            0.051,
        ),
        (
            AT_RUN_TIME,
            {
                "w1": (0.01 * integers(3, 6, 4)).astype(np.float32),
                "s1": np.float32(0.01),
                "z1": np.int8(0),
            },
            True,
            1e-5,
        ),
    ],
    ids=["float", "qdq", "qlinear", "quantised at run time"],
)
def test_onnxruntime_computes_what_was_trained(opened, tmp_path, text, weights, quantised, atol):
    session = opened(text, weights)
    job, parameters = trained(session)
    runner, tensors = export(session, parameters, tmp_path)
    x = job.validation.inputs["x"].numpy()
    # A sum that rounds to the next level differs by one step of the output.
    np.testing.assert_allclose(
        runner.run(None, {"x": x})[0],
        twin_rows(session, job, parameters, quantised=quantised),
        atol=atol,
    )
    assert all(tensors[name].dtype == np.asarray(array).dtype for name, array in weights.items())
    assert not np.array_equal(tensors["w1"], weights["w1"])


def test_scales_and_zero_points_of_integer_weights_stay(opened, tmp_path):
    session = opened(QDQ, qdq_weights())
    _job, parameters = trained(session)
    _runner, tensors = export(session, parameters, tmp_path)
    for name in ("s1", "z1", "s2", "z2"):
        np.testing.assert_array_equal(tensors[name], qdq_weights()[name])


def test_integer_networks_learn(opened):
    session = opened(QDQ, qdq_weights())
    job = session.job(recipe_of("plain").method(), quick(epochs=10))
    rows = train(job, session.parameters, progress=NullProgress()).rows
    assert rows[-1].clean > max(0.9, rows[0].clean + 0.1)


def test_tied_weights_and_their_digital_copy_stay_one_tensor(opened, tmp_path):
    random = np.random.default_rng(0)
    weights = {
        "w1": (0.4 * random.normal(size=(6, 6))).astype(np.float32),
        "b1": np.full(6, 0.1, np.float32),
        "rows": np.array([0, 3]),
    }
    x, _ = clusters(300, 1)
    session = opened(TIED, weights, dataset(x, np.random.default_rng(1).integers(0, 6, 300)))
    assert list(session.trainable.digital.copies.values()) == ["w1"]
    job, parameters = trained(session)
    runner, tensors = export(session, parameters, tmp_path)
    assert set(tensors) == {"w1", "b1", "rows"}
    expected = twin_rows(session, job, parameters, quantised=False)
    np.testing.assert_allclose(
        runner.run(None, {"x": job.validation.inputs["x"].numpy()})[0], expected, atol=1e-5
    )


def test_half_precision_is_written_in_half_precision(opened, tmp_path):
    text = MLP.replace("float[", "float16[").replace("float16[N, 6] x", "float16[N, 6] x")
    weights = {name: array.astype(np.float16) for name, array in weights_of_mlp().items()}
    x, labels = clusters(300, 1)
    session = opened(text, weights, dataset(x.astype(np.float16), labels))
    _job, parameters = trained(session)
    _runner, tensors = export(session, parameters, tmp_path)
    np.testing.assert_array_equal(tensors["w1"], parameters.to_numpy()["w1"].astype(np.float16))


def test_weights_that_the_file_computes_are_named_before_training(opened):
    text = MLP.replace(
        "h = MatMul(x, w1)",
        "two = Constant <value = float {2.0}> ()\n  v = Mul(w1, two)\n  h = MatMul(x, v)",
    )
    with pytest.raises(
        ModelNotCoveredError, match=r"trained tensors must be initializers of the file, got 'v'"
    ):
        opened(text)
    assert set(opened(text, freeze=["v"]).parameters.weights) == {"w2"}


def test_layers_without_a_gradient_are_named(opened):
    text = MLP.replace(
        "y = MatMul(r, w2)",
        "f = Cast<to = 7>(r)\n  c = Cast<to = 1>(f)\n  zero = Constant <value = float {0.0}> ()\n "
        " k = Mul(c, zero)\n  s = Add(r, k)\n  y = MatMul(s, w2)",
    )
    assert set(opened(text).parameters.weights) == {"w1", "w2"}
    dead = MLP.replace(
        "a = Add(h, b1)",
        "zero = Constant <value = float {0.0}> ()\n  z = Mul(h, zero)\n  a = Add(z, b1)",
    )
    session = opened(dead)
    assert session.trainable.left == {"w1": "the decision does not depend on it"}


def test_names_to_freeze_must_exist(opened):
    with pytest.raises(
        UsageError,
        match=r"must be stored weights or biases of the model, got \['w9'\] \(--freeze\)",
    ):
        opened(freeze=["w9"])


NORMALISED = """
<ir_version: 8, opset_import: ["" : 15]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 16] w1, float[16] gain, float[16] shift, float[16] mean, float[16] variance, float[16, 4] w2> {
  h = MatMul(x, w1)
  n = BatchNormalization(h, gain, shift, mean, variance)
  r = Relu(n)
  y = MatMul(r, w2)
}
"""  # noqa: E501


def normalised_weights() -> dict[str, np.ndarray]:
    ones = np.ones(16, np.float32)
    return {
        **{name: array for name, array in weights_of_mlp().items() if name != "b1"},
        "gain": ones,
        "shift": 0 * ones,
        "mean": 0 * ones,
        "variance": ones,
    }


def test_normalisations_are_frozen_by_default(opened, tmp_path):
    session = opened(NORMALISED, normalised_weights())
    _job, parameters = trained(session)
    _runner, tensors = export(session, parameters, tmp_path)
    for name in ("gain", "shift", "mean", "variance"):
        np.testing.assert_array_equal(tensors[name], normalised_weights()[name])


def test_normalisations_are_trained_and_follow_the_data_on_demand(opened, tmp_path):
    session = opened(NORMALISED, normalised_weights(), settings=quick(update_norms=True))
    job = session.job(recipe_of("plain").method(), quick(update_norms=True, epochs=8))
    parameters = train(job, session.parameters, progress=NullProgress()).parameters
    runner, tensors = export(session, parameters, tmp_path)
    data = job.training.inputs["x"].numpy() @ tensors["w1"]
    # A running mean over mini-batches of weights that still move.
    np.testing.assert_allclose(tensors["mean"], data.mean(0), atol=0.25 * data.std(0).max())
    np.testing.assert_allclose(tensors["variance"], data.var(0), rtol=0.5)
    assert (tensors["gain"] != 1).any()
    assert (tensors["shift"] != 0).any()
    expected = twin_rows(session, job, parameters, quantised=False)
    np.testing.assert_allclose(
        runner.run(None, {"x": job.validation.inputs["x"].numpy()})[0], expected, atol=1e-4
    )


DYNAMIC = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <int8[6, 4] w1, float s1, float[4] b1> {
  q, s, z = DynamicQuantizeLinear(x)
  h = MatMulInteger(q, w1, z)
  c = Cast<to = 1>(h)
  f = Mul(s, s1)
  g = Mul(c, f)
  y = Add(g, b1)
}
"""


def test_networks_that_quantise_over_the_batch_are_compared_on_the_same_batch(opened):
    x, labels = clusters(300, 1)
    x[::40] *= 1.2  # what is quantised with these is quantised a little more coarsely
    session = opened(
        DYNAMIC,
        {"w1": integers(3, 6, 4), "s1": np.float32(0.01), "b1": np.zeros(4, np.float32)},
        dataset(x, labels),
    )
    assert set(session.parameters.digital) == {"b1"}


def test_bare_integers_move_as_fast_as_other_weights(opened):
    x, labels = clusters(300, 1)
    session = opened(
        DYNAMIC,
        {"w1": integers(3, 6, 4), "s1": np.float32(0.01), "b1": np.zeros(4, np.float32)},
        dataset(x, labels),
    )
    job = session.job(recipe_of("plain").method(), quick(epochs=10))
    rows = train(job, session.parameters, progress=NullProgress()).rows
    assert rows[-1].clean > max(0.9, rows[0].clean + 0.1)
