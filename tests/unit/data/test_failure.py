"""The score of a chip is 0 or less exactly if it misses the requirement, whatever the task."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cimrobust.data.decision import Decision
from cimrobust.data.failure import FailureScore, wrong_needed
from cimrobust.data.task import Task
from cimrobust.errors import UsageError

_GENERATOR = np.random.default_rng(0)
_SAMPLES = 40


def _outputs(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Outputs with ties, zeros and values that are not finite among them."""
    made = [np.round(_GENERATOR.normal(size=shape) * 2).astype(np.float32) for _ in range(60)]
    for index in range(20):
        made[index].reshape(-1)[index] = (np.nan, np.inf, -np.inf)[index % 3]
    return [*made, np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32)]


def _labels(high: int, *shape: int) -> np.ndarray:
    return _GENERATOR.integers(0, high, size=shape)


TASKS: dict[str, tuple[Task, tuple[int, ...]]] = {
    "argmax": (Task(Decision(), _labels(4, _SAMPLES), 1, 4), (_SAMPLES, 4)),
    "argmin": (Task(Decision(read="argmin"), _labels(4, _SAMPLES), 1, 4), (_SAMPLES, 4)),
    "several decisions a sample": (
        Task(Decision(axis=1), _labels(3, _SAMPLES, 5), 1, 3),
        (_SAMPLES, 3, 5),
    ),
    "threshold": (
        Task(Decision(read="threshold", threshold=1.0), _labels(2, _SAMPLES), None, 2),
        (_SAMPLES, 1),
    ),
    "regression": (
        Task(
            Decision(read="value", metric="mae"),
            np.round(_GENERATOR.normal(size=(_SAMPLES, 1)), 1),
            None,
            None,
        ),
        (_SAMPLES, 1),
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_score_tells_exactly_which_chips_miss_the_requirement(name: str) -> None:
    task, shape = TASKS[name]
    outputs = _outputs(shape)
    reached = sorted(
        {task.score(output).value for output in outputs if np.isfinite(task.score(output).value)}
    )
    told = set()
    for below in [value for value in reached if value > 0] + [
        0.5 * (a + b) for a, b in pairwise(reached) if b > 0
    ]:
        score = FailureScore(task, below)
        for output in outputs:
            value = task.score(output).value
            misses = value < below if task.higher_is_better else value > below
            assert (score(output) <= 0.0) == misses
            told.add(misses)
    assert told == {True, False}


def test_score_falls_as_the_needed_decisions_come_nearer_to_wrong() -> None:
    task = Task(Decision(), np.zeros(10, dtype=np.int64), 1, 2)
    output = np.stack([np.arange(10.0, 0.0, -1.0), np.zeros(10)], axis=1)
    scores = [FailureScore(task, below)(output) for below in (1.0, 0.9, 0.8, 0.1)]
    assert scores == pytest.approx([1.0, 2.0, 3.0, 10.0])


def test_ties_are_broken_by_the_margins_around_without_changing_what_fails() -> None:
    task = Task(Decision(), np.zeros(10, dtype=np.int64), 1, 2)
    for margin in (0.25, 0.0, -0.25):
        margins = np.array([margin] * 3 + [0.5] * 3 + [9.0] * 4)
        better = np.where(margins == 0.5, 0.75, margins)
        scores = [
            FailureScore(task, 0.8)(np.stack([values, np.zeros(10)], axis=1))
            for values in (margins, better)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-8)
        assert scores[0] < scores[1] or margin == 0.0
        assert all(
            (score > 0.0) == (margin >= 0.0) for score in scores
        )  # class 0 wins a tie, so the decision is right


@pytest.mark.parametrize(
    ("below", "expected"), [(1.0, 1), (0.99, 6), (0.962, 20), (0.9619, 20), (0.001, 500)]
)
def test_wrong_decisions_needed_are_counted_not_rounded(below: float, expected: int) -> None:
    assert wrong_needed(500, below) == expected
    assert (500 - expected) / 500 < below <= (500 - expected + 1) / 500


@pytest.mark.parametrize("below", [0.0, -1.0, 1.01])
def test_accuracies_that_no_chip_or_every_chip_misses_are_refused(below: float) -> None:
    with pytest.raises(UsageError, match="accuracy that a chip may miss"):
        wrong_needed(500, below)


def test_an_output_that_is_the_decision_is_refused() -> None:
    task = Task(Decision(read="label"), np.zeros(5, dtype=np.int64), None, 2)
    with pytest.raises(
        UsageError, match="rare events need an output with scores of classes, got one with the"
    ):
        FailureScore(task, 0.9)
