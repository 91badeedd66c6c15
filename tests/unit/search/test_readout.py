from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import parser

from cimrobust.data.decision import Decision
from cimrobust.data.task import Task
from cimrobust.onnx_io.normalise import normalised
from cimrobust.search.readout import Readout, decide, possible_readouts
from cimrobust.twin.to_torch import Twin, to_torch

BODY: dict[str, tuple[str, str]] = {
    "softmax": ("float[N, 3]", "y = Softmax(z)"),
    "log of softmax": (
        "float[N, 3]",
        "c = Constant<value_float = 300.0>() m = Mul(z, c) s = Softmax(m) t = Softmax(s) y = Log(t)".replace(  # noqa: E501
            ") ", ")\n "
        ),
    ),
    "scaled down and moved": (
        "float[N, 3]",
        "c = Constant<value_float = 2.0>() d = Div(z, c) s = Tanh(d) y = Sub(s, c)".replace(
            ") ", ")\n "
        ),
    ),
    "turned round": (
        "float[N, 3]",
        "c = Constant<value_float = -2.0>() y = Mul(z, c)".replace(") ", ")\n "),
    ),
    "divided": (
        "float[N, 3]",
        "c = Constant<value_float = 2.0>() y = Div(c, z)".replace(") ", ")\n "),
    ),
    "moved by class": (
        "float[N, 3]",
        "c = Constant<value_floats = [1.0, 2.0, 3.0]>() y = Add(z, c)".replace(") ", ")\n "),
    ),
    "argmax": ("int64[N]", "y = ArgMax<axis = 1, keepdims = 0>(z)"),
    "highest of one": (
        "int64[N]",
        "one = Constant<value_ints = [1]>()\n v, k = TopK(z, one)\n"
        " last = Constant<value_ints = [1]>()\n y = Squeeze(k, last)",
    ),
    "lowest of one": (
        "int64[N, 1]",
        "one = Constant<value_ints = [1]>()\n v, y = TopK<largest = 0>(z, one)",
    ),
    "best two": ("int64[N, 2]", "two = Constant<value_ints = [2]>()\n v, y = TopK(z, two)"),
    "best value": ("float[N, 1]", "one = Constant<value_ints = [1]>()\n y, k = TopK(z, one)"),
    "greater": ("bool[N, 3]", "c = Constant<value_float = 2.0>()\n y = Greater(z, c)"),
    "number above": (
        "int64[N, 3]",
        "c = Constant<value_float = 2.0>()\n b = GreaterOrEqual(c, z)\n y = Cast<to = 7>(b)",
    ),
    "cast_argmin": ("float[N, 1]", "k = ArgMin<axis = 1>(z)\n y = Cast<to = 1>(k)"),
}


@pytest.fixture
def twin() -> Callable[[str], Twin]:
    def build(kind: str) -> Twin:
        form, body = BODY[kind]
        text = (
            f'<ir_version: 8, opset_import: ["" : 13]> net (float[N, 3] x) => ({form} y) {{ z ='
            f" Neg(x) \n {body} }}"
        )
        return to_torch(normalised(parser.parse_model(text)))

    return build


def _task(read: str, labels: np.ndarray, axis: int | None, threshold: float | None = None) -> Task:
    return Task(Decision(read=read, threshold=threshold), labels, axis, 3)


def test_softmax_is_stepped_over(twin: Callable[[str], Twin]) -> None:
    found = list(possible_readouts(twin("softmax"), _task("argmax", np.zeros(2, np.int64), 1), "y"))
    assert [readout.tensor for readout in found] == ["z", "y"]


@pytest.mark.parametrize(
    ("kind", "tensors"),
    [
        ("log of softmax", ["z", "m", "s", "t", "y"]),
        ("scaled down and moved", ["z", "d", "s", "y"]),
        ("turned round", ["y"]),
        ("divided", ["y"]),
        ("moved by class", ["y"]),
    ],
)
def test_only_what_keeps_the_order_of_classes_is_stepped_over(
    twin: Callable[[str], Twin], kind: str, tensors: list[str]
) -> None:
    found = list(possible_readouts(twin(kind), _task("argmax", np.zeros(2, np.int64), 1), "y"))
    assert [readout.tensor for readout in found] == tensors


@pytest.mark.parametrize(
    ("kind", "sign"),
    [("argmax", 1.0), ("cast_argmin", -1.0), ("highest of one", 1.0), ("lowest of one", -1.0)],
)
def test_a_choice_is_read_from_what_it_chose_from(
    twin: Callable[[str], Twin], kind: str, sign: float
) -> None:
    found = list(possible_readouts(twin(kind), _task("label", np.zeros(2, np.int64), None), "y"))
    assert {(readout.tensor, readout.sign) for readout in found} == {("z", sign)}


@pytest.mark.parametrize("kind", ["best two", "best value"])
def test_other_outputs_of_topk_are_no_choice(twin: Callable[[str], Twin], kind: str) -> None:
    task = _task("label", np.zeros(2, np.int64), None)
    assert list(possible_readouts(twin(kind), task, "y")) == []


def test_argmin_rows_are_turned_round() -> None:
    logits = Readout("y", "classes", axis=1, sign=-1.0).logits(torch.tensor([[1.0, 0.5, 2.0]]))
    assert decide(logits.numpy()).tolist() == [1]


def test_threshold_rows_decide_as_the_threshold_does() -> None:
    logits = Readout("y", "threshold", threshold=(0.5,)).logits(torch.tensor([[0.4], [0.5], [0.6]]))
    assert decide(logits.numpy()).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("kind", "sign"), [("greater", 1.0), ("number above", -1.0)])
def test_a_comparison_with_a_number_is_read_from_what_it_compares(
    twin: Callable[[str], Twin], kind: str, sign: float
) -> None:
    numbers = _task("threshold", np.zeros((4, 3), np.int64), None, 0.5)
    first = next(possible_readouts(twin(kind), numbers, "y"))
    assert (first.sign, first.threshold) == (sign, (2.0,))
    labels = _task("label", np.zeros((4, 3), np.int64), None)
    assert next(possible_readouts(twin(kind), labels, "y")) == first
    decided = decide(first.logits(torch.tensor([[1.0, 3.0]])).numpy())
    assert decided.tolist() == ([0, 1] if sign > 0 else [1, 0])


def test_booleans_and_whole_numbers_are_compared_with_thresholds_as_reals() -> None:
    read = Readout("y", "threshold", threshold=(0.5,))
    assert decide(read.logits(torch.tensor([True, False])).numpy()).tolist() == [1, 0]
    low = Readout("y", "threshold", threshold=(-0.5,))
    assert decide(low.logits(torch.tensor([0, -1])).numpy()).tolist() == [1, 0]


def test_positions_become_rows_in_the_order_of_labels() -> None:
    output = torch.arange(24.0).reshape(2, 3, 4)  # samples, classes, positions
    logits = Readout("y", "classes", axis=1).logits(output)
    assert logits.shape == (8, 3)
    assert logits[1].tolist() == [1.0, 5.0, 9.0]


def test_rows_that_are_not_finite_decide_nothing() -> None:
    assert decide(np.array([[1.0, np.nan], [0.0, 1.0], [np.inf, 0.0]])).tolist() == [-1, 1, -1]
