from __future__ import annotations

import gc
import weakref

import onnx
import pytest
import torch
from onnx import parser

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.normalise import normalised
from cimrobust.twin.ops import control
from cimrobust.twin.ops.converter_registry import CannotConvertError
from cimrobust.twin.ops.torch_tensors import to_tensor
from cimrobust.twin.ops.twin_step import TwinRunError
from cimrobust.twin.to_torch import TwinUnavailableError, to_torch

HEAD = '<ir_version: 8, opset_import: ["": 13, "com.example": 1, "com.microsoft": 1]>'
TIED = """g (float[b, 2] x) => (float[b, 2] y, int64[b] best) <float[2, 2] w = {1, 2, 3, 4}, int64[2] s = {2, 2}> {
  best = ArgMax<axis = 1, keepdims = 0>(y)
  y = MatMul(h, r)
  h = MatMul(x, t)
  t = Transpose(w)
  r = Reshape(w, s)
  unused = Relu(h)
}"""  # noqa: E501
X = torch.tensor([[1.0, -1.0], [0.5, 2.0]])


def model(text: str) -> onnx.ModelProto:
    return normalised(parser.parse_model(HEAD + text))


def test_a_shared_initializer_is_one_tensor_of_the_twin():
    twin = to_torch(model(TIED), weight_names=["w"])
    w = twin.weights["w"].requires_grad_()
    y = twin({"x": X}, {"w": w})["y"]
    torch.testing.assert_close(y, X @ w.t() @ w)
    (gradient,) = torch.autograd.grad(y.sum(), w)
    (expected,) = torch.autograd.grad((X @ w.t() @ w).sum(), w)
    torch.testing.assert_close(gradient, expected)


def test_forward_is_functional_in_the_weights():
    twin = to_torch(model(TIED), weight_names=["w"])
    before = twin({"x": X})["y"]
    twin({"x": X}, {"w": torch.zeros(2, 2)})
    assert torch.equal(twin({"x": X})["y"], before)
    assert twin({"x": X}, {"w": torch.zeros(2, 2)})["y"].abs().sum() == 0


def test_any_tensor_can_be_an_output():
    twin = to_torch(model(TIED), weight_names=["w"])
    got = twin({"x": X}, outputs=["t", "y", "x", "w"])
    assert torch.equal(got["t"], twin.weights["w"].t())
    assert torch.equal(got["x"], X)
    assert twin.source_of("best") == ("ArgMax", ("y",))
    assert twin.source_of("x") is None
    assert got["y"].argmax(1).tolist() == twin({"x": X})["best"].tolist()


def test_a_decision_by_argmax_has_scores_that_carry_gradients():
    twin = to_torch(model(TIED), weight_names=["w"])
    _, (scores, *_) = twin.source_of("best")
    w = twin.weights["w"].requires_grad_()
    twin({"x": X}, {"w": w}, [scores])[scores].sum().backward()
    assert w.grad.abs().sum() > 0


def test_double_precision_follows_the_module():
    twin = to_torch(model(TIED), weight_names=["w"])
    single = twin({"x": X})["y"]
    double = twin.double()({"x": X})["y"]
    assert double.dtype == torch.float64
    assert twin.weights["w"].dtype == torch.float64
    torch.testing.assert_close(double.float(), single)
    assert twin.float()({"x": X})["y"].dtype == torch.float32


def test_all_nodes_without_a_converter_are_listed():
    text = """g (float[2] x) => (float[2] y) {
      <doc> a = com.example.Strange(x)
      b = RandomNormalLike(a)
      y = com.microsoft.MadeUp(b)
    }""".replace("<doc> ", "")
    with pytest.raises(TwinUnavailableError) as caught:
        to_torch(model(text))
    assert len(caught.value.nodes) == 3
    for part in (
        "com.example::Strange, opset 1",
        "RandomNormalLike, opset 13",
        "com.microsoft::MadeUp",
    ):
        assert part in str(caught.value)


def test_a_node_with_attributes_that_do_not_fit_is_listed_not_crashed():
    node = onnx.helper.make_node("LRN", ["x"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 2, 3])],
        [onnx.ValueInfoProto(name="y")],
    )
    with pytest.raises(TwinUnavailableError, match="LRN"):
        to_torch(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]))


def test_texts_have_no_tensor():
    text = onnx.helper.make_tensor("names", onnx.TensorProto.STRING, [1], [b"a"])
    with pytest.raises(CannotConvertError, match="tensor 'names' must be numeric, got STRING"):
        to_tensor(text)


def test_runs_that_do_not_fit_each_other_do_not_share_a_pass():
    twin = to_torch(model("g (float[2] x, float[2] z) => (float[2] y) { y = Add(x, z) }"))
    with pytest.raises(TwinRunError, match="runs must have outputs of one shape to share a pass"):
        twin.each({"x": torch.ones(3, 2), "z": torch.ones(4, 2)}, {}, {}, ["y"])


def test_a_loop_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(control, "MAX_TWIN_ITERATIONS", 3)
    twin = to_torch(
        model(
            """g (float[2] x, int64 n) => (float[2] y) {
              y = Loop(n, , x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {
                d = Identity(c)
                w = Add(v, v)
              }>
            }"""
        )
    )
    assert twin({"x": X[0], "n": torch.tensor(3)})["y"].tolist() == (8 * X[0]).tolist()
    with pytest.raises(TwinRunError, match="got a loop that runs its body more than 3 times"):
        twin({"x": X[0], "n": torch.tensor(4)})


def test_a_failure_at_run_time_names_the_node():
    twin = to_torch(
        model(
            "g (float[b, 3] x) => (float[b, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { y ="
            " MatMul(x, w) }"
        )
    )
    with pytest.raises(
        TwinRunError, match=r"\(MatMul\) must run in torch, got .*\(inputs float32\[2, 2\]"
    ):
        twin({"x": X})


@pytest.mark.parametrize(
    ("inputs", "weights", "outputs", "text"),
    [
        ({}, None, None, "every input must be given, got none for 'x'"),
        ({"x": X, "q": X}, None, None, "input must be one of x, got 'q'"),
        ({"x": X}, {"s": X}, None, "weight must be one of"),
        ({"x": X}, None, ["nowhere"], "output must name a tensor of the graph, got 'nowhere'"),
    ],
)
def test_wrong_names_are_refused(inputs, weights, outputs, text):
    twin = to_torch(model(TIED), weight_names=["w"])
    with pytest.raises(CimrobustError, match=text):
        twin(inputs, weights, outputs)


def test_an_unknown_weight_name_is_refused():
    with pytest.raises(CimrobustError, match="must be an initializer of the model, got 'v'"):
        to_torch(model(TIED), weight_names=["w", "v"])


def test_initializers_that_are_also_inputs_and_constants_as_weights():
    text = """g (float[b, 2] x, float[2, 2] w) => (float[b, 2] y) <float[2, 2] w = {1, 2, 3, 4}> {
      c = Constant<value = float[2, 2] {1, 0, 0, 1}>()
      h = MatMul(x, w)
      y = MatMul(h, c)
    }"""
    twin = to_torch(model(text), weight_names=["w", "c"])
    assert twin.inputs == ("x",)
    torch.testing.assert_close(twin({"x": X})["y"], X @ twin.weights["w"])
    assert twin({"x": X}, {"c": torch.zeros(2, 2)})["y"].abs().sum() == 0


CALL = """g (float[b, 2] x) => (float[b, 2] y) { y = com.example.double(x) }
<domain: "com.example", opset_import: ["": 13]> double (a) => (c) { c = Add(a, a) }"""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (CALL, "functions of its own"),
        (
            "g (float[2] x) => (float[2] y) { c = Constant<value_float = 2.0>() y = Mul(x, c) }",
            "Constant nodes",
        ),
        (TIED, "nodes in front of what they read"),
    ],
)
def test_a_model_that_is_not_normalised_is_refused(text, left):
    raw = parser.parse_model(HEAD + text)
    with pytest.raises(CimrobustError, match=f"model must be normalised, got {left}; pass it"):
        to_torch(raw)
    to_torch(normalised(raw))


def test_local_functions_are_inlined():
    text = """g (float[b, 2] x) => (float[b, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = com.example.twice(x, w) }
    <domain: "com.example", opset_import: ["": 13]> twice (a, b) => (c) { d = MatMul(a, b) c = MatMul(d, b) }"""  # noqa: E501
    twin = to_torch(model(text), weight_names=["w"])
    torch.testing.assert_close(twin({"x": X})["y"], X @ twin.weights["w"] @ twin.weights["w"])


def test_integer_weights_are_held_as_floats_and_get_gradients():
    text = """g (float[b, 2] x) => (float[b, 2] y) <int8[2, 2] w = {1, -2, 3, 4}, float[2] s = {0.5, 0.25}, int8[2] z = {0, 0}> {
      d = DequantizeLinear<axis = 1>(w, s, z)
      y = MatMul(x, d)
    }"""  # noqa: E501
    twin = to_torch(model(text), weight_names=["w"])
    assert twin.weights["w"].tolist() == [[1, -2], [3, 4]]
    w = twin.weights["w"].requires_grad_()
    twin({"x": X}, {"w": w})["y"].sum().backward()
    torch.testing.assert_close(w.grad, X.sum(0).unsqueeze(1) * torch.tensor([0.5, 0.25]))


def test_shapes_follow_the_batch():
    text = """g (float[b, 2, 3] x) => (float[b, n] y) <int64[1] zero = {0}, int64[1] one = {1}, int64[1] rest = {-1}> {
      s = Shape(x)
      n = Slice(s, zero, one)
      t = Concat<axis = 0>(n, rest)
      y = Reshape(x, t)
    }"""  # noqa: E501
    twin = to_torch(model(text))
    for batch in (1, 4):
        assert twin({"x": torch.zeros(batch, 2, 3)})["y"].shape == (batch, 6)


def test_intermediates_are_freed_on_the_way():
    text = "g (float[n] x) => (float[n] y) { a = Neg(x) b = Exp(a) c = Abs(b) y = Sqrt(c) }"
    twin = to_torch(model(text))
    alive: list[int] = []
    made: list[weakref.ref[torch.Tensor]] = []
    for index, step in enumerate(twin._program.steps):

        def watched(x: torch.Tensor, kernel=step.kernel) -> torch.Tensor:
            alive.append(sum(reference() is not None for reference in made))
            result = kernel(x)
            made.append(weakref.ref(result))
            return result

        twin._program.steps[index] = type(step)(watched, step.inputs, step.outputs, step.node)
    gc.disable()
    try:
        with torch.no_grad():
            twin({"x": torch.zeros(4)})
    finally:
        gc.enable()
    assert max(alive) == 1


def test_constant_parts_are_computed_once():
    twin = to_torch(model(TIED), weight_names=["w"])
    assert [step.node.op for step in twin._foldable] == []
    frozen = to_torch(model(TIED))
    assert sorted(step.node.op for step in frozen._foldable) == ["Reshape", "Transpose"]
    assert torch.equal(frozen({"x": X})["y"], twin({"x": X})["y"])
