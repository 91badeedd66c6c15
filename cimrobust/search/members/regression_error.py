"""Member: climb on the error metric of a regression.

Has the passes of the members that need decisions.

Which way an error grows is settled early: the values that can be pushed furthest, and the
direction, are those of the valley that a run begins in. So there
are many short runs, and the best of them, not only the very best, are what continuation goes on
from.
"""

from __future__ import annotations

from cimrobust.search.climb import climb
from cimrobust.search.losses import RegressionError
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import most_promising

NAME = "regression_error"
_RUNS = 10


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    """Climb from zero and from random corners, for equal shares of the passes."""
    loss = RegressionError(problem.task.metric)
    granted = sum((*budget.smooth, *budget.hinge, *budget.entropy, *budget.ratio))
    results: list[Candidate] = []
    for index in range(_RUNS):
        start, origin = problem.box.zero(), "from zero"
        if index:
            start, origin = (
                problem.box.random_corner(problem.random(NAME, "corner", index)),
                f"from random corner {index}",
            )
        passes = granted * (index + 1) // _RUNS - granted * index // _RUNS
        found = climb(problem, NAME, loss, start=start, passes=passes, origin=origin)
        results += [] if found is None else [found]
    problem.ends += results
    return most_promising(results)


def _applies(problem: Problem) -> str:
    return "" if problem.task.is_regression else "only for regressions"


REGRESSION_ERROR = Member(NAME, _run, applies=_applies)
