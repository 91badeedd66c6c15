"""Member: climb on the margins of the decisions that are still right, and no others.

Linear in the margin, so decisions that are right by far keep pulling: the way around "everything is
class c", where bounded losses stop.
"""

from __future__ import annotations

from cimrobust.search.losses import Hinge
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import climb_from_starts, needs_classes

NAME = "margin_hinge"
# How far beyond the boundary a decision still counts, in median margins; used in turn.
_REACHES = (0.0, 0.2)


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    return climb_from_starts(
        problem,
        NAME,
        [([Hinge(_REACHES[index % 2])], passes) for index, passes in enumerate(budget.hinge)],
    )


MARGIN_HINGE = Member(NAME, _run, applies=needs_classes)
