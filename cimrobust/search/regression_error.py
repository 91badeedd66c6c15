"""Member: climb on the error metric of a regression; has the passes of the members that need decisions."""

from __future__ import annotations

from cimrobust.search.budget import Budget
from cimrobust.search.objective import RegressionError
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.protocol import Member
from cimrobust.search.starts import climb_from_starts

NAME = "regression_error"


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    loss = RegressionError(problem.task.metric)
    return climb_from_starts(
        problem, NAME, [([loss], passes) for passes in (*budget.smooth, *budget.hinge, *budget.entropy, *budget.ratio)]
    )


def _applies(problem: Problem) -> str:
    return "" if problem.task.is_regression else "only for regressions"


REGRESSION_ERROR = Member(NAME, _run, applies=_applies)
