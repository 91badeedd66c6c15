"""The model file on its samples: which output decides, samples that change each other, outputs of
no fixed size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from cimrobust.data.dataset import DataSet
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.engine.apart import check_samples_apart
from cimrobust.engine.judged_outputs import judge, output_of
from cimrobust.engine.other_sizes import check_sizes
from cimrobust.errors import ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network, TensorSpec
from cimrobust.twin.to_torch import to_torch

GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(24, 6)).astype(np.float32)
W = GENERATOR.normal(size=(6, 4)).astype(np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
WEIGHT = "<float[6, 4] w>"

Loader = Callable[..., Network]
Maker = Callable[..., DataSet]


def check(network: Network, data: DataSet) -> None:
    judged = judge(network, data)
    check_samples_apart(network, judged.dataset, judged.output, rounds=False)


@pytest.mark.parametrize("batch", ["N", "8"])
def test_samples_of_their_own_are_let_pass(load: Loader, dataset: Maker, batch: str) -> None:
    network = load(
        HEAD + f"(float[{batch}, 6] x) => (float[{batch}, 4] y) {WEIGHT} {{ y = MatMul(x, w) }}",
        {"w": W},
    )
    check(network, dataset({"x": X}))


@pytest.mark.parametrize("batch", ["N", "8", "16"])
@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul(x, w) m = ReduceMean<axes = [0], keepdims = 1>(a) y = Sub(a, m)",
        "a = MatMul(x, w) y = Softmax<axis = 0>(a)",
        "a = MatMul(x, w) m = ReduceMax<axes = [0], keepdims = 1>(a) y = Div(a, m)",
    ],
)
def test_samples_that_change_each_other_are_refused(
    load: Loader, dataset: Maker, batch: str, body: str
) -> None:
    network = load(
        HEAD + f"(float[{batch}, 6] x) => (float[{batch}, 4] y) {WEIGHT} {{ {body} }}", {"w": W}
    )
    with pytest.raises(ModelNotCoveredError, match="whatever other samples are in its batch"):
        check(network, dataset({"x": X}, np.zeros(24, int)))


def _recurrent(load: Loader) -> Network:
    text = (
        HEAD
        + "(float[T, N, 6] x) => (float[T, N, 4] y) <float[1, 4, 6] w, float[1, 4, 4] r, int64[1]"
        " one = {1}> " + "{ h, last = RNN<hidden_size = 4>(x, w, r) y = Squeeze(h, one) }"
    )
    return load(
        text, {"w": W.T[None].copy(), "r": GENERATOR.normal(size=(1, 4, 4)).astype(np.float32)}
    )


def test_time_first_samples_are_refused_with_what_to_do(load: Loader, dataset: Maker) -> None:
    data = dataset(
        {"x": GENERATOR.normal(size=(12, 5, 6)).astype(np.float32)},
        np.zeros((12, 5), int),
        decision=Decision(axis=2),
    )
    with pytest.raises(ModelNotCoveredError, match=r"time first\).*reshape step"):
        check(_recurrent(load), data)


def test_time_first_samples_with_an_axis_of_their_own_are_read(
    load: Loader, dataset: Maker
) -> None:
    sequences = GENERATOR.normal(size=(12, 5, 1, 6)).astype(np.float32)
    judged = judge(
        _recurrent(load),
        dataset({"x": sequences}, np.zeros((12, 5), int), decision=Decision(axis=3)),
    )
    assert judged.output.shape == (12, 5, 1, 4)
    assert judged.task.num_decisions == 60


NONZERO = "r = Relu(a) y = NonZero(r)"
COMPRESS = (
    "r = Relu(a) z = Greater(r, zero) f = Squeeze(z) s = Slice(f, i0, i4) y = Compress<axis ="
    " 1>(a, s)"
)


@pytest.mark.parametrize(
    ("batch", "body", "kind"),
    [("N", NONZERO, "int64[2, k]"), ("1", NONZERO, "int64[2, k]"), ("1", COMPRESS, "float[1, k]")],
)
def test_outputs_of_another_size_for_every_sample_are_refused(
    load: Loader, dataset: Maker, batch: str, body: str, kind: str
) -> None:
    text = (
        HEAD
        + f"(float[{batch}, 6] x) => ({kind} y) <float[6, 4] w, float zero = {{0}}, int64[1] i0 ="
        " {0}, int64[1] i4 = {4}> " + f"{{ a = MatMul(x, w) {body} }}"
    )
    with pytest.raises(
        UsageError,
        match=r"decision output must have (one shape for all|one entry a) sample.*choose another",
    ):
        judge(load(text, {"w": W}), dataset({"x": X}, np.zeros(24, int)))


SPECS = {
    "label": TensorSpec("label", "int64", ("N",)),
    "column": TensorSpec("column", "int64", ("N", 1)),
    "text": TensorSpec("text", "str", ("N",)),
    "scores": TensorSpec("scores", "float32", ("N", 3)),
    "values": TensorSpec("values", "float32", ("N",)),
}


@pytest.mark.parametrize(
    ("outputs", "decision", "chosen"),
    [
        (("label", "scores"), Decision(), "scores"),
        (("text", "scores"), Decision(), "scores"),
        (("column", "values", "scores"), Decision(read="topk", k=2), "scores"),
        (("label", "scores"), Decision(read="label"), "label"),
        (("label", "scores"), Decision(output="label"), "label"),
        (("label", "values"), Decision(), "label"),
        (("label", "scores", "scores"), Decision(), "label"),
        (("values", "scores"), Decision(), "values"),
    ],
)
def test_scores_beside_labels_decide(
    outputs: tuple[str, ...], decision: Decision, chosen: str
) -> None:
    assert output_of([SPECS[name] for name in outputs], decision) == chosen


def _classifier(path, *, keys: list[str], is_mapped: bool) -> Network:
    """Write a classifier as scikit-learn's are exported: text labels first, then scores."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p" if is_mapped else "scores"], axis=1),
        helper.make_node("ArgMax", ["s"], ["i"], axis=1, keepdims=0),
        helper.make_node("ArrayFeatureExtractor", ["names", "i"], ["l"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["l", "flat"], ["label"]),
    ]
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 4])
    if is_mapped:
        nodes.append(
            helper.make_node(
                "ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", classlabels_strings=keys
            )
        )
        pair = helper.make_map_type_proto(
            onnx.TensorProto.STRING, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
        )
        scores = helper.make_value_info("scores", helper.make_sequence_type_proto(pair))
    names = helper.make_tensor(
        "names", onnx.TensorProto.STRING, [4], [key.encode() for key in keys]
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 6])],
        [helper.make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"]), scores],
        [numpy_helper.from_array(W, "w"), names, numpy_helper.from_array(np.array([-1]), "flat")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return load_network(path)


@pytest.mark.parametrize("is_mapped", [True, False])
def test_text_labels_of_a_classifier(tmp_path, dataset: Maker, is_mapped: bool) -> None:
    keys = ["owl", "cat", "dog", "ant"]  # no order that sorting gives
    network = _classifier(tmp_path / "m.onnx", keys=keys, is_mapped=is_mapped)
    data = dataset({"x": X}, np.asarray(keys)[(X @ W).argmax(axis=1)])
    if not is_mapped:
        with pytest.raises(UsageError, match=r"\[label\] classes"):
            judge(network, data)
        data = replace(data, reading=LabelReading(classes=tuple(keys)))
    judged = judge(network, data)
    assert judged.task.score(judged.output).value == 1.0
    assert judged.dataset.reading.classes == tuple(keys)
    twin = to_torch(
        network.model, weight_names=["w"], outputs=["scores"]
    )  # names of classes need no torch form
    np.testing.assert_allclose(
        twin({"x": torch.from_numpy(X)}, twin.weights, ["scores"])["scores"].detach().numpy(),
        judged.output,
        atol=1e-6,
    )
    named = judge(
        network,
        replace(
            data,
            decision=Decision(output="label", read="label"),
            reading=LabelReading(classes=tuple(keys)),
        ),
    )
    assert named.task.score(named.output).value == 1.0


@pytest.mark.parametrize("is_mapped", [True, False])
def test_maps_of_labels_to_scores_are_compared_as_scores(tmp_path, is_mapped: bool) -> None:
    network = _classifier(
        tmp_path / "m.onnx", keys=["owl", "cat", "dog", "ant"], is_mapped=is_mapped
    )
    checked = check_sizes(network, network.model.SerializeToString(), integer=False)
    assert checked.max_difference == 0
    other = copy.deepcopy(network.model)
    weights = next(one for one in other.graph.initializer if one.name == "w")
    weights.CopyFrom(numpy_helper.from_array(2 * W, "w"))
    with pytest.raises(SelfCheckError, match="outputs of its file at all sizes"):
        check_sizes(network, other.SerializeToString(), integer=False)
