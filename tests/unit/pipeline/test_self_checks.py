"""What may never be: a bound and a chip that contradict each other end a run, and say so."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from cimrobust.data.decision import IGNORED, Decision, Score
from cimrobust.data.task import Task
from cimrobust.diagnose import fragile_inputs
from cimrobust.errors import SelfCheckError
from cimrobust.pipeline import stages, writing
from cimrobust.pipeline.stages import check_unbroken

BROKEN = np.array([False, True])
TASK = Task(Decision(), np.array([0, 1]), axis=1, num_classes=2)
CERTIFIED = SimpleNamespace(certified=BROKEN, score=Score(0.9, 9, 10))
TABLE = SimpleNamespace(higher_is_better=True, worst_value=0.95)
FOUND = SimpleNamespace(score=Score(0.8, 8, 10))
RUNTIME = SimpleNamespace(task=SimpleNamespace(score=lambda _output: Score(0.7, 7, 10)))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: check_unbroken(TASK, CERTIFIED, SimpleNamespace(broken=BROKEN)),
            "no chip of the box may break a certified sample, got sample 1 broken by a diagnostic",
        ),
        (
            lambda: stages._check_certified(CERTIFIED, TABLE, FOUND),
            "no chip of the box may score worse than the certified 0.9, got 0.8; report this",
        ),
        (
            lambda: writing._self_check(RUNTIME, Score(0.6, 6, 10), np.zeros(1), "kernel"),
            r"worst chip must score what was reported, 0.6, got 0.7 \(kernel\)",
        ),
        (
            lambda: fragile_inputs._row(SimpleNamespace(share=[0.5]), 0, None, 0.75),
            "an input must not break inside the box it is certified for, got sample 0 certified to",
        ),
    ],
)
def test_contradictions_are_internal_errors(check: Callable[[], None], message: str) -> None:
    with pytest.raises(SelfCheckError, match=message) as caught:
        check()
    assert caught.value.exit_code == 70


def test_what_agrees_passes() -> None:
    check_unbroken(TASK, CERTIFIED, SimpleNamespace(broken=~BROKEN))
    stages._check_certified(CERTIFIED, TABLE, SimpleNamespace(score=Score(0.9, 9, 10)))
    writing._self_check(RUNTIME, Score(0.7, 7, 10), np.zeros(1), "kernel")


def test_decisions_that_are_not_counted_are_no_contradiction() -> None:
    tokens = Task(Decision(), np.array([[0, IGNORED], [IGNORED, 1]]), axis=2, num_classes=2)
    check_unbroken(
        tokens, CERTIFIED, SimpleNamespace(broken=np.array([[True, True], [True, False]]))
    )
    with pytest.raises(SelfCheckError, match="got sample 1 broken"):
        check_unbroken(
            tokens, CERTIFIED, SimpleNamespace(broken=np.array([[False] * 2, [True] * 2]))
        )
