"""Member: climb on cross-entropy.

It rewards hopeless samples, and still wins where margins are flat.
"""

from __future__ import annotations

from cimrobust.search.losses import CrossEntropy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import climb_from_starts, needs_classes

NAME = "cross_entropy"


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    return climb_from_starts(
        problem, NAME, [([CrossEntropy()], passes) for passes in budget.entropy]
    )


CROSS_ENTROPY = Member(NAME, _run, applies=needs_classes)
