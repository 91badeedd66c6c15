"""Nodes without a torch form: onnxruntime runs them inside the twin."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser

from cimrobust.twin.ops.outside_gradient import DIRECTIONS, ELEMENTS, STRAIGHT
from cimrobust.twin.to_torch import Twin, TwinUnavailableError, to_torch

from .conftest import run_onnxruntime

NETWORK = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "ai.onnx.ml" : 3]>
net (float[N, 6] x) => (float[N, 3] y) <float[6, 8] w, float[K, 3] v>
{ h = MatMul(x, w) \n %s \n y = MatMul(m, v) }"""


def network(middle: str, width: int, **more: np.ndarray) -> onnx.ModelProto:
    """Two layers around some nodes that make `m`, `width` wide, of `h`."""
    model = parser.parse_model(NETWORK.replace("K", str(width)) % middle)
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(6, 8)).astype(np.float32),
        "v": random.normal(size=(width, 3)).astype(np.float32),
        **more,
    }
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    return model


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)


def gradient_of(twin: Twin, name: str) -> torch.Tensor:
    """Gradient of the summed squares of the output with respect to a weight."""
    weight = twin.weights[name].requires_grad_()
    twin({"x": torch.from_numpy(samples())}, {name: weight})["y"].square().sum().backward()
    assert weight.grad is not None
    return weight.grad


def check(model: onnx.ModelProto, how: str) -> Twin:
    """Assert that the twin computes what onnxruntime does, and how its one node outside estimates
    its gradient.
    """
    with pytest.raises(TwinUnavailableError):
        to_torch(model, weight_names=["w", "v"])
    twin = to_torch(model, weight_names=["w", "v"], outside=True)
    x = samples()
    got = twin({"x": torch.from_numpy(x)})["y"].numpy()
    np.testing.assert_allclose(got, run_onnxruntime(model, {"x": x})[0], rtol=1e-5, atol=1e-5)
    assert [node.used for node in twin.outside] == [set()]
    assert gradient_of(twin, "w").abs().sum() > 0
    assert [node.used for node in twin.outside] == [{how}]
    return twin


SCALER = (
    "m = ai.onnx.ml.Scaler<scale = [1.5, -2.0, 3.0, 0.5, 1.0, 2.0, 0.1, 1.0], offset = [0.0, 1.0,"
    " 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]>(h)"
)
WIDE = np.array([1, 20], np.int64)


def test_elementwise_node_has_its_slopes() -> None:
    model = network(SCALER, 8)
    twin = check(model, ELEMENTS)
    factor, offset = (
        np.array([1.5, -2, 3, 0.5, 1, 2, 0.1, 1], np.float32),
        np.array([0, 1, 0, 0, 0, 0, 0, 0], np.float32),
    )
    exact = to_torch(
        network("s = Sub(h, o) \n m = Mul(s, f)", 8, f=factor, o=offset), weight_names=["w", "v"]
    )
    torch.testing.assert_close(
        gradient_of(twin, "w"), gradient_of(exact, "w"), rtol=1e-3, atol=1e-3
    )


def test_flat_elementwise_node_is_straight_through() -> None:
    check(network("m = ai.onnx.ml.Binarizer<threshold = 0.1>(h)", 8), STRAIGHT)


def test_node_that_picks_columns_has_its_exact_gradient() -> None:
    columns = np.array([[5, 0, 5]], np.int64)
    twin = check(network("m = ai.onnx.ml.ArrayFeatureExtractor(h, c)", 3, c=columns), ELEMENTS)
    gathered = to_torch(
        network("m = Gather<axis = 1>(h, c)", 3, c=columns[0]), weight_names=["w", "v"]
    )
    torch.testing.assert_close(
        gradient_of(twin, "w"), gradient_of(gathered, "w"), rtol=1e-3, atol=1e-3
    )


def test_row_wise_node_is_moved_element_by_element() -> None:
    twin = check(network('m = ai.onnx.ml.Normalizer<norm = "L2">(h)', 8), ELEMENTS)
    exact = to_torch(network("m = LpNormalization<axis = 1, p = 2>(h)", 8), weight_names=["w", "v"])
    torch.testing.assert_close(
        gradient_of(twin, "w"), gradient_of(exact, "w"), rtol=5e-3, atol=5e-3
    )


def test_wide_node_of_the_same_shape_is_straight_through() -> None:
    check(
        network('t = Tile(h, k) \n m = ai.onnx.ml.Normalizer<norm = "L2">(t)', 160, k=WIDE),
        STRAIGHT,
    )


def test_wide_node_of_another_shape_is_moved_in_random_directions() -> None:
    columns = np.arange(100, dtype=np.int64)[None]
    middle = "t = Tile(h, k) \n m = ai.onnx.ml.ArrayFeatureExtractor(t, c)"
    twin = check(network(middle, 100, k=WIDE, c=columns), DIRECTIONS)
    gathered = to_torch(
        network(
            middle.replace("ai.onnx.ml.ArrayFeatureExtractor", "Gather<axis = 1>"),
            100,
            k=WIDE,
            c=columns[0],
        ),
        weight_names=["w", "v"],
    )
    found, exact = gradient_of(twin, "w").reshape(-1), gradient_of(gathered, "w").reshape(-1)
    assert (
        torch.cosine_similarity(found, exact, dim=0) > 0.3
    )  # 16 directions in 160 dimensions, averaged over what shares a weight


def test_estimates_do_not_depend_on_when_they_are_made() -> None:
    model = network(
        "t = Tile(h, k) \n m = ai.onnx.ml.ArrayFeatureExtractor(t, c)",
        100,
        k=WIDE,
        c=np.arange(100, dtype=np.int64)[None],
    )
    twin = to_torch(model, weight_names=["w", "v"], outside=True)
    torch.testing.assert_close(gradient_of(twin, "w"), gradient_of(twin, "w"), rtol=0, atol=0)


def test_node_before_the_first_weight_costs_no_estimate() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    net (float[N, 6] x) => (float[N, 3] y) <int64[1, 2] c = {1, 4}, float[2, 3] w = {1, 2, 3, 4, 5, 6}> { p = ai.onnx.ml.ArrayFeatureExtractor(x, c) \n y = MatMul(p, w) }"""  # noqa: E501
    twin = to_torch(parser.parse_model(text), weight_names=["w"], outside=True)
    assert gradient_of(twin, "w").abs().sum() > 0
    assert twin.outside[0].used == set()


def test_texts_pass_between_nodes_outside() -> None:
    model = network(
        'l = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1], values_strings = ["a", "b"]>(i) \n u ='
        ' StringNormalizer<case_change_action = "UPPER", locale = "C">(l) \no ='
        ' ai.onnx.ml.LabelEncoder<keys_strings = ["A", "B"], values_floats = [2.0, 3.0]>(u) \n m ='
        " Mul(h, o)",
        8,
        i=np.array([1], np.int64),
    )
    twin = to_torch(model, weight_names=["w", "v"], outside=True)
    got = twin({"x": torch.from_numpy(samples())})["y"].numpy()
    np.testing.assert_allclose(
        got, run_onnxruntime(model, {"x": samples()})[0], rtol=1e-5, atol=1e-5
    )


def test_network_that_has_no_torch_form_at_all_has_no_twin() -> None:
    text = """<ir_version: 8, opset_import: ["" : 19, "com.microsoft" : 1]>
    net (float[N, 4, 5, 5] x) => (float[N, 2, 5, 5] y) <float[N, 18, 5, 5] o, float[2, 4, 3, 3] w> { y = DeformConv<pads = [1, 1, 1, 1]>(x, z, w) }"""  # noqa: E501
    model = parser.parse_model(text.replace("<float[N, 18, 5, 5] o, float[2, 4, 3, 3] w>", ""))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 4, 3, 3), np.float32), "w"))
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 18, 5, 5), np.float32), "z")
    )
    with pytest.raises(TwinUnavailableError, match="DeformConv"):
        to_torch(model, weight_names=["w"], outside=True)


def test_forced_node_runs_outside_although_it_has_a_torch_form() -> None:
    model = network("m = Tanh(h)", 8)
    model.graph.node[1].name = "squash"
    twin = to_torch(model, weight_names=["w", "v"], outside=True, forced={"squash": "it failed"})
    exact = to_torch(model, weight_names=["w", "v"])
    assert [node.reason for node in twin.outside] == ["it failed"]
    torch.testing.assert_close(
        gradient_of(twin, "w"), gradient_of(exact, "w"), rtol=1e-2, atol=1e-2
    )
