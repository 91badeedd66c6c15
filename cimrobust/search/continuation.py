"""Member: go on from the best patterns so far, on the samples that are still right. The way below the "everything is class c" plateau."""

from __future__ import annotations

from cimrobust.search.budget import Budget
from cimrobust.search.climb import best_of, climb
from cimrobust.search.objective import Loss, RegressionError, StillRight, margins, median_scale
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.protocol import Found, Member
from cimrobust.search.starts import found_by

NAME = "continuation"
_FIRST_STEP = 0.5


def _run(problem: Problem, budget: Budget) -> Found:
    earlier = [candidate for candidate in problem.board.best() if candidate.origin]
    results: list[Candidate | None] = []
    for index, passes in enumerate(budget.continuation):
        if not earlier:
            break
        start = earlier[min(index, len(earlier) - 1)]
        loss = _loss(problem, start)
        results.append(
            climb(problem, NAME, loss, start=start.pattern, passes=passes, first_step=_FIRST_STEP, origin=f"after {start.member}")
        )
    return found_by(best_of(results))


def _loss(problem: Problem, start: Candidate) -> Loss:
    if problem.task.is_regression:
        return RegressionError(problem.task.metric)
    assert problem.oracle is not None
    found = margins(problem.oracle.rows(problem.box.weights(start.pattern)), problem.oracle.labels)
    right = found < 0
    broken = found[~right]
    return StillRight(right=right, broken_scale=median_scale(broken))


CONTINUATION = Member(NAME, _run)
