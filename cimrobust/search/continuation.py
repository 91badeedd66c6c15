"""Member: go on from the best patterns so far.

From a collapsed state (little more is right than one class) on the decisions that are still right, which leads below the plateau; from any
other state on smoothed accuracy with sharper edges.
"""

from __future__ import annotations

from collections.abc import Sequence

from cimrobust.search.budget import Budget
from cimrobust.search.climb import climb_in_turn
from cimrobust.search.objective import Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.protocol import Member
from cimrobust.search.starts import most_promising

NAME = "continuation"
_FIRST_STEP = 0.5
# Longer than for members that begin at zero: from here on every decision that turns has been out of reach before.
_PATIENCE = 10


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    earlier = problem.board.best()
    results: list[Candidate] = []
    # Passes that earlier members did not need go into longer continuations.
    shares = [passes + problem.spare // len(budget.continuation) for passes in budget.continuation]
    for start, passes in zip(earlier, shares, strict=False):
        losses = _losses(problem, start)
        origin = f"after {start.member}"
        results += climb_in_turn(
            problem, NAME, losses, start=start.pattern, passes=passes, first_step=_FIRST_STEP, origin=origin, patience=_PATIENCE
        )
    return most_promising(results)


def _losses(problem: Problem, start: Candidate) -> Sequence[Loss]:
    if problem.task.is_regression:
        return [RegressionError(problem.task.metric)]
    if problem.has_collapsed(start):
        return [Hinge(0.0)]
    return [SmoothAccuracy(0.1), SmoothAccuracy(0.05)] if problem.sees_all else [SmoothAccuracy(0.1)]


CONTINUATION = Member(NAME, _run)
