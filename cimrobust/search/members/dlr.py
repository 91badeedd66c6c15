"""Member: climb on the margin ratio (DLR), which neither shift nor scale of the scores can mask."""

from __future__ import annotations

from cimrobust.search.losses import MarginRatio
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import climb_from_starts, needs_classes

NAME = "dlr"


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    return climb_from_starts(problem, NAME, [([MarginRatio()], passes) for passes in budget.ratio])


def _applies(problem: Problem) -> str:
    if problem.oracle is not None and not problem.task.is_regression and problem.num_classes < 3:
        return f"needs three classes, the decision has {problem.num_classes}"
    return needs_classes(problem)


DLR = Member(NAME, _run, applies=_applies)
