"""Member: climb on smoothed accuracy, the loss nearest to what is counted."""

from __future__ import annotations

from cimrobust.search.budget import Budget
from cimrobust.search.objective import SmoothAccuracy
from cimrobust.search.problem import Problem
from cimrobust.search.protocol import Found, Member
from cimrobust.search.starts import climb_from_starts, needs_classes

NAME = "smooth_accuracy"
_TEMPERATURES = (0.25, 0.1)


def _run(problem: Problem, budget: Budget) -> Found:
    runs = [(SmoothAccuracy(_TEMPERATURES[index % 2]), passes) for index, passes in enumerate(budget.smooth)]
    return climb_from_starts(problem, NAME, runs)


SMOOTH_ACCURACY = Member(NAME, _run, applies=needs_classes)
