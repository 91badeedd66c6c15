"""Member: one fast run of the papers' method once decisions have collapsed.

It uses the passes that the others left.

Small steps from zero lead to "everything is one class" and stay there. Adam with steps of a quarter
of the box, which the sum of margins of the decisions that are still right steers,
crosses that plateau: on CIFAR networks at 0.5 % it left nothing right after 55 to 75 passes, where
the other members stopped with two decisions of 128 (docs/lab-book/search.md).
"""

from __future__ import annotations

from cimrobust.search.members.carlini_wagner import FASTEST, FIRST_WEIGHT, SETTLED, minimise
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import needs_classes

NAME = "fast_run"
# Passes after which a run has gone where it goes.
_MOST = 80


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    passes = min(problem.left, _MOST)
    return [minimise(problem, FIRST_WEIGHT, FASTEST, passes, member=NAME)[0]]


def _applies(problem: Problem) -> str:
    """Return why the member does not apply."""
    reason = needs_classes(problem)
    if not reason and not problem.has_collapsed():
        reason = "no member has collapsed the decisions onto one class"
    return reason or ("" if problem.left >= SETTLED else f"fewer than {SETTLED} passes are left")


FAST_RUN = Member(NAME, _run, applies=_applies)
