"""How close decisions are to a tie, and how far two outputs differ."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.data.decision import IGNORED, Decision
from cimrobust.data.task import Task
from cimrobust.twin_trials import near_ties
from cimrobust.twin_trials.near_ties import (
    closeness,
    differing_decisions,
    largest_difference,
    largest_score,
)

SCORES = np.array([[1.0, 4.0, 3.0], [2.0, 0.0, -8.0]], dtype=np.float32)


def nearest_tie(task: Task, output: np.ndarray) -> float:
    """Return how close the closest of all decisions is to a tie."""
    return float(closeness(task, output).min())


def task(read: str = "argmax", labels: tuple[int, ...] = (1, 1), **decision: object) -> Task:
    """Return how the scores above are read."""
    kind = Decision(read=read, **decision)  # type: ignore[arg-type]
    return Task(kind, np.array(labels), axis=1, num_classes=3)


@pytest.mark.parametrize(
    ("read", "labels", "k", "closest"),
    [
        ("argmax", (1, 1), 1, 1.0),  # 4 against 3
        ("argmax", (0, 1), 1, 2.0),  # 0 against 2
        ("argmin", (0, 1), 1, 2.0),  # 1 against 3, and 0 against -8
        ("topk", (2, 1), 2, 2.0),  # 3 against the second best other, 1
        ("topk", (2, 1), 3, np.inf),  # always among three of three
        ("argmax", (IGNORED, 1), 1, 2.0),
    ],
)
def test_the_closest_decision_is_measured_by_the_largest_score(
    read: str, labels: tuple[int, ...], k: int, closest: float
) -> None:
    assert nearest_tie(task(read, labels, k=k), SCORES) == closest / 8.0


def test_a_threshold_is_a_tie_where_it_is_met() -> None:
    kind = Decision(read="threshold", threshold=0.5)
    made = Task(kind, np.array([1, 0]), axis=None, num_classes=2)
    assert nearest_tie(made, np.array([[1.5], [0.25]], dtype=np.float32)) == 0.25
    assert nearest_tie(made, np.array([[1.5], [0.5]], dtype=np.float32)) == 0.0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_has_no_decision_is_as_close_as_can_be(broken: float) -> None:
    scores = SCORES.copy()
    scores[0, 0] = broken
    assert nearest_tie(task(), scores) == 0.0


def test_masked_classes_are_no_ties() -> None:
    scores = SCORES.copy()
    scores[:, 2] = -np.inf
    assert nearest_tie(task(), scores) == 2.0 / 4.0


def test_every_sample_has_its_own_closest_decision() -> None:
    assert closeness(task(labels=(1, 2)), SCORES).tolist() == [1.0 / 8.0, 10.0 / 8.0]
    positions = Task(Decision(), np.array([[1, 1]]), axis=1, num_classes=3)
    assert closeness(positions, SCORES.T[None]).tolist() == [1.0 / 8.0]


def test_an_output_without_scores_is_as_close_as_can_be() -> None:
    assert closeness(task(), np.zeros_like(SCORES)).tolist() == [0.0, 0.0]


def test_the_largest_difference_is_a_share_of_the_largest_score() -> None:
    other, scale = SCORES.copy(), largest_score(task(), SCORES)
    other[1, 0] += 2.0
    assert scale == 8.0
    assert largest_difference(task(), SCORES, other, scale=scale) == 0.25
    assert largest_difference(task(), SCORES, SCORES, scale=scale) == 0.0
    other[0, 0] = np.nan
    assert largest_difference(task(), SCORES, other, scale=scale) == np.inf
    assert largest_difference(task(), other, other, scale=scale) == 0.0
    assert largest_difference(task(), SCORES, other, scale=0.0) == np.inf


def test_many_samples_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[float]:
        apart = largest_difference(task(), SCORES, 2.0 * SCORES, scale=8.0)
        return [*closeness(task(), SCORES).tolist(), apart, largest_score(task(), SCORES)]

    whole = found()
    monkeypatch.setattr(near_ties, "_VALUES_AT_ONCE", 1)
    assert found() == whole == [0.125, 0.25, 1.0, 8.0]


def test_decisions_that_are_not_counted_do_not_differ() -> None:
    other = SCORES[:, ::-1]
    assert differing_decisions(task(), SCORES, other) == 1  # the first has its best in the middle
    assert differing_decisions(task(labels=(1, IGNORED)), SCORES, other) == 0
