"""Member: climb on smoothed accuracy, the loss nearest to what is counted."""

from __future__ import annotations

from cimrobust.search.losses import SmoothAccuracy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import climb_from_starts, needs_classes

NAME = "smooth_accuracy"
# Widths of the edge, in median margins. Cooling down from a wide edge to a sharp one finds 3 to 6
# points more on the crafting samples than one width; on samples it has not seen, sharp edges lose
# what they gained (measured on three networks, 500 of 5000 samples).
_COOLING = (0.5, 0.2, 0.1, 0.05)
_STEADY = ((0.25,), (0.5, 0.25), (0.5, 0.2, 0.1))


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    widths = [
        _COOLING if problem.sees_all else _STEADY[index % len(_STEADY)]
        for index in range(len(budget.smooth))
    ]
    runs = [
        ([SmoothAccuracy(width) for width in row], passes)
        for row, passes in zip(widths, budget.smooth, strict=True)
    ]
    return climb_from_starts(problem, NAME, runs)


SMOOTH_ACCURACY = Member(NAME, _run, applies=needs_classes)
