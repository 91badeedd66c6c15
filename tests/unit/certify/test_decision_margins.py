"""What has to be proven of scores, and how far decisions may be moved forwards in a graph."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.decision_margins import Reading, reading_of
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.data.decision import Decision
from cimrobust.data.task import Task
from cimrobust.twin.twin_module import Twin
from tests.unit.search.conftest import Opener

SIGMOID_ERROR, SOFTMAX_LEAST, SOFTMAX_SHARE = 2.0**-19, 2.0**-16, 2.0**-19


class Chain(Twin):
    """A network of operators in a row: the last gives y, in front of it are h1, h2 and so on."""

    def __init__(self, operators: tuple[str, ...]) -> None:
        torch.nn.Module.__init__(self)
        names = ["y", *(f"h{place}" for place in range(1, len(operators) + 1))]
        self._sources = {
            made: (op, (read,))
            for op, (made, read) in zip(operators, itertools.pairwise(names), strict=True)
        }

    def source_of(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        return self._sources.get(name)

    def node_of(self, name: str) -> None:
        return None


def task(read: str, *, threshold: float = 0.5, k: int = 1) -> Task:
    decision = Decision(read=read, threshold=threshold, k=k)
    return Task(decision, np.zeros(3, np.int64), axis=1, num_classes=4)


def reading(read: str, *operators: str, **more: Any) -> Reading:
    return reading_of(Chain(operators), task(read, **more), "y", lambda _name: torch.Size((1, 4)))


def test_forms_are_the_label_against_every_other_class() -> None:
    scores = torch.tensor([[3.0, 5.0, 4.0], [0.5, 0.25, 2.0]], dtype=torch.float64)
    for sign in (1.0, -1.0):
        forms, offsets = Reading("y", "classes", sign=sign).forms(
            torch.tensor([1, 0]), torch.Size((2, 3))
        )
        assert not offsets.any()
        made = (forms * scores).sum(-1)
        assert (sign * made).tolist() == [[2.0, 0.25], [1.0, -1.5]]


def test_forms_of_a_threshold_are_positive_on_the_side_of_the_label() -> None:
    values = torch.tensor([[0.75], [0.75], [0.25]], dtype=torch.float64)
    forms, offsets = Reading("y", "threshold", thresholds=(0.5,)).forms(
        torch.tensor([1, 0, 0]), torch.Size((3, 1))
    )
    assert ((forms * values).sum(-1) + offsets).tolist() == [[0.25, -0.25, 0.25]]


def test_decisions_of_classes_are_read_in_front_of_one_softmax() -> None:
    plain = reading("argmax", "MatMul")
    assert (plain.tensor, plain.needed, plain.needed_share, plain.sign) == ("y", 0.0, 0.0, 1.0)
    for op in ("Softmax", "LogSoftmax"):
        found = reading("argmax", "Identity", op, "Dropout", "MatMul")
        assert (found.tensor, found.needed, found.needed_share) == (
            "h3",
            SOFTMAX_LEAST,
            SOFTMAX_SHARE,
        )
    assert reading("argmin", "Softmax").sign == -1.0
    assert reading("argmax", "Softmax").most_apart == math.inf
    assert reading("topk", "Softmax", k=3).most_ahead == 2


@pytest.mark.parametrize("outer", ["Softmax", "LogSoftmax"])
def test_two_softmaxes_are_not_one(outer: str) -> None:
    """Scores of many classes that differ by enough for one have the same float32 behind two."""
    found = reading("argmax", outer, "Softmax", "MatMul")
    assert (found.tensor, found.needed) == ("h1", SOFTMAX_LEAST)


@pytest.mark.parametrize("operators", [("Sigmoid",), ("Sigmoid", "Identity", "Sigmoid")])
@pytest.mark.parametrize("threshold", [0.52, 0.6, 0.7])
def test_a_margin_in_front_of_sigmoids_is_one_behind_them(
    operators: tuple[str, ...], threshold: float
) -> None:
    found = reading("threshold", *operators, threshold=threshold)
    assert found.tensor == f"h{len(operators)}"
    assert 0.0 < found.needed < 1e-3
    for side in (-1.0, 1.0):
        value = found.thresholds[0] + side * found.needed
        for op in reversed(operators):
            if op == "Sigmoid":  # rounded the wrong way
                value = 1 / (1 + math.exp(-value)) - side * SIGMOID_ERROR
        assert side * (value - threshold) > 0.0


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1e-6, 1 - 1e-6, 1.0, 3.0])
def test_a_threshold_that_sigmoid_may_miss_stays_behind_it(threshold: float) -> None:
    found = reading("threshold", "Identity", "Sigmoid", threshold=threshold)
    assert (found.tensor, found.thresholds, found.needed) == ("h1", (threshold,), 0.0)


def test_what_has_no_margin_is_not_bounded() -> None:
    assert reading("value", "Softmax") == Reading("y", "value")
    with pytest.raises(NotBoundedError, match="holds labels, not the scores"):
        reading("label")


CHOSEN = """<ir_version: 8, opset_import: ["" : 13]>
    net (float[N, 5, 3] x) => ({type} y) <float[3, 4] w> {{ h = MatMul(x, w) s = Transpose
    <perm = [0, 2, 1]> (h) {nodes} }}"""


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_labels_are_bounded_by_the_scores_that_they_are_chosen_by(
    opened: Opener, op: str, keep: int, last: int
) -> None:
    rng = np.random.default_rng(7)
    inputs = {"x": rng.normal(size=(12, 5, 3)).astype(np.float32)}
    weights = {"w": rng.normal(size=(3, 4)).astype(np.float32)}
    scores = np.moveaxis(inputs["x"] @ weights["w"], 2, 1)
    labels = scores.argmax(1) if op == "ArgMax" else scores.argmin(1)
    labels[0] = (labels[0] + 1) % 4
    shape = f"<axis = 1, keepdims = {keep}, select_last_index = {last}>"
    chosen = CHOSEN.format(type="int64[N, 5]", nodes=f"a = {op} {shape} (s) y = Reshape(a, f)")
    chosen = chosen.replace("w>", "w, int64[2] f = {{0, 5}}>".replace("{{", "{").replace("}}", "}"))
    plain = CHOSEN.format(type="float[N, 4, 5]", nodes="y = Identity(s)")
    found = []
    for text, decision in (
        (chosen, Decision(read="label")),
        (plain, Decision(read=op.lower(), axis=1)),
    ):
        network = open_bounds(
            *opened(text, weights, inputs, labels, decision=decision, tolerance=0.01)
        )
        assert isinstance(network, BoundedNetwork)
        found.append(certify(network).certified.tolist())
    assert found[0] == found[1]
    assert not any(found[0][:5])
    assert 20 < sum(found[0]) < 55


def test_the_best_of_topk_is_bounded_by_its_scores(opened: Opener) -> None:
    text = CHOSEN.format(type="int64[N, 1, 5]", nodes="v, y = TopK <axis = 1> (s, one)")
    text = text.replace("w>", "w, int64[1] one = {1}>")
    rng = np.random.default_rng(7)
    inputs = {"x": rng.normal(size=(12, 5, 3)).astype(np.float32)}
    weights = {"w": rng.normal(size=(3, 4)).astype(np.float32)}
    labels = np.moveaxis(inputs["x"] @ weights["w"], 2, 1).argmax(1)
    runtime, placement = opened(
        text, weights, inputs, labels, decision=Decision(read="label"), tolerance=0.01
    )
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    assert network.reading == Reading("s", "classes", axis=1)
    assert 20 < certify(network).certified.sum() < 60


def test_labels_that_no_score_has_are_not_bounded(opened: Opener) -> None:
    text = CHOSEN.format(type="int64[N, 5]", nodes="y = ArgMax <axis = 1, keepdims = 0> (s)")
    network = open_bounds(
        *opened(
            text,
            {"w": np.eye(3, 4, dtype=np.float32)},
            {"x": np.ones((2, 5, 3), np.float32)},
            np.full((2, 5), 7),
            decision=Decision(read="label"),
            tolerance=0.01,
        )
    )
    assert not isinstance(network, BoundedNetwork)
    assert "chosen along axis 1 of scores of shape [1, 4, 5], and go up to 7" in str(network)


@pytest.mark.parametrize("read", ["argmin", "argmax"])
def test_the_lowest_of_scores_that_softmax_makes_zero_is_not_told_apart(
    opened: Opener, read: str
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    net (float[N, 1] x) => (float[N, 4] y) <float[1, 4] w> { h = MatMul(x, w) y = Softmax(h) }"""
    runtime, placement = opened(
        text,
        {"w": np.float32([[-150.0, -200.0, 20.0, 200.0]])},
        {"x": np.ones((2, 1), np.float32)},
        np.array([1, 1] if read == "argmin" else [3, 3]),
        decision=Decision(read=read),
        tolerance=0.001,
    )
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    assert certify(network, method="interval").certified.tolist() == [read == "argmax"] * 2
    # In float32 the two lowest are both zero, and the first of them is taken.
    if read == "argmin":
        assert runtime.clean_output.argmin(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("op", "size", "held"),
    [("Softmax", 0.1, True), ("Softmax", 1.0, False), ("LogSoftmax", 1.0, True)],
)
def test_scores_that_softmax_makes_zero_are_not_told_apart(
    opened: Opener, op: str, size: float, held: bool
) -> None:
    """The label is the second best; behind softmax it may be zero as the others in front are."""
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
    net (float[N, 1] x) => (float[N, 4] y) <float[1, 4] w> {{ h = MatMul(x, w) y = {op}(h) }}"""
    weights = {"w": np.float32([[-60.0, -30.0, 20.0, 200.0]]) * np.float32(size)}
    runtime, placement = opened(
        text,
        weights,
        {"x": np.ones((2, 1), np.float32)},
        np.array([2, 2]),
        decision=Decision(read="topk", k=2),
        tolerance=0.001,
    )
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    assert certify(network, method="interval").certified.tolist() == [held] * 2
    # Where nothing is claimed, decisions of the very network without deviation may be wrong.
    assert runtime.task.right(runtime.clean_output).tolist() == [held] * 2
