"""Decisions and scores."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision, Score
from cimrobust.data.fitted_task import make_task
from cimrobust.errors import UsageError


def dataset(labels, decision=None, size=None) -> DataSet:
    labels = None if labels is None else np.asarray(labels)
    size = len(labels) if size is None else size
    return DataSet(
        {"x": np.zeros((size, 1), np.float32)},
        {},
        labels,
        decision or Decision(),
        DataSource("d", {}, {}, size),
    )


SCORES = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 9.0], [0.0, -1.0, -2.0]])


def test_argmax_counts_right_decisions():
    assert make_task(dataset([1, 2, 1]), SCORES).score(SCORES) == Score(2 / 3, 2, 3)


def test_argmin_takes_the_lowest():
    assert make_task(dataset([2, 1, 2], Decision(read="argmin")), SCORES).score(SCORES).count == 3


def test_own_decisions_are_the_labels_where_there_are_none():
    task = make_task(dataset(None, size=3), SCORES)
    assert task.labels.tolist() == [1, 2, 0]
    assert task.score(SCORES[::-1]).count == 1


def test_thresholds_are_exceeded_not_met():
    output = np.array([[0.5], [0.6], [0.4]])
    task = make_task(dataset([0, 1, 1], Decision(read="threshold", threshold=0.5)), output)
    assert task.decide(output).tolist() == [0, 1, 0]


def test_labels_read_from_the_model_itself():
    task = make_task(dataset([4, 0, 1], Decision(read="label")), np.array([4, 0, 0]))
    assert task.score(np.array([4, 0, 0])).count == 2


@pytest.mark.parametrize(
    ("metric", "value"), [("rmse", 5 / np.sqrt(2)), ("mae", 3.5), ("mse", 12.5), ("max_error", 4.0)]
)
def test_errors_are_lower_is_better(metric, value):
    task = make_task(
        dataset([0.0, 0.0], Decision(read="value", metric=metric)), np.array([[3.0], [-4.0]])
    )
    score = task.score(np.array([[3.0], [-4.0]]))
    assert score.value == pytest.approx(value)
    assert score.count is None
    assert task.is_worse(score, Score(0.0, None, 2))
    assert not task.higher_is_better


def test_what_is_not_finite_is_wrong():
    output = np.array([[np.nan, 1.0], [1.0, 0.0]])
    assert make_task(dataset([1, 0]), output).score(output).count == 1
    regression = make_task(dataset([0.0], Decision(read="value", metric="rmse")), np.array([[1.0]]))
    assert regression.score(np.array([[np.inf]])).value == np.inf


def test_ties_go_to_the_first_class():
    output = np.array([[1.0, 1.0]])
    assert make_task(dataset([0]), output).score(output).count == 1


def test_one_label_a_pixel():
    output = np.zeros((2, 3, 4, 4))
    output[:, 1] = 1
    task = make_task(dataset(np.ones((2, 4, 4), int)), output)
    assert (task.axis, task.score(output)) == (1, Score(1.0, 32, 32))


def test_one_label_a_token():
    output = np.zeros((2, 5, 3))
    output[..., 2] = 1
    task = make_task(dataset(np.full((2, 5), 2)), output)
    assert (task.axis, task.score(output).num_samples) == (2, 10)


def test_one_hot_and_column_labels_are_understood():
    assert make_task(dataset(np.eye(3)[[1, 2, 0]]), SCORES).score(SCORES).count == 3
    assert make_task(dataset([[1], [2], [0]]), SCORES).score(SCORES).count == 3


def test_confusion_counts_what_was_decided():
    table = make_task(dataset([1, 2, 1]), SCORES).confusion(SCORES)
    assert table.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "output", "decision", "text"),
    [
        ([0, 3], np.zeros((2, 3)), Decision(), r"labels must be in 0\.\.2, got 3 at sample 1"),
        (
            [0, 1],
            np.zeros((2, 1)),
            Decision(),
            r"argmax needs at least two classes, got 1 in an output of shape \[2, 1\]",
        ),
        (
            [0, 1],
            np.array([["a", "b"]] * 2),
            Decision(),
            r"argmax needs an output of numbers, got text; choose another \[decision\] output",
        ),
        (
            [0, 1],
            np.zeros(2),
            Decision(),
            r"argmax needs an axis of classes, got an output of shape \[2\]",
        ),
        ([0.5, 1.0], np.zeros((2, 3)), Decision(), "whole numbers"),
        ([0, 1, 1], np.zeros((2, 3)), Decision(), "one entry a sample"),
        ([[0, 1], [1, 0]], np.zeros((2, 3)), Decision(), "one class for each"),
        (
            [0.0, 1.0],
            np.zeros((2, 3)),
            Decision(read="value", metric="rmse"),
            "as many as output values",
        ),
    ],
)
def test_labels_that_do_not_fit(labels, output, decision, text):
    with pytest.raises(UsageError, match=text):
        make_task(dataset(labels, decision), output)
