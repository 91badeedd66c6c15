"""Member: make every decision the same class (a regression: push all values one way).

Decisive for wide boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cimrobust.search.climb import PATIENCE, climb
from cimrobust.search.losses import Collapse, Loss, Shift
from cimrobust.search.members.member_protocol import Member
from cimrobust.search.problem import Problem, nearest_classes

if TYPE_CHECKING:
    from cimrobust.search.candidate import Candidate, Earlier
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

_NAME = "class_collapse"
_LATER_STEP = 0.5


def _run(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Try some targets for a few passes each, and go on with those that broke most.

    Where the decisions have collapsed already, two targets are enough to see which class is the
    smallest that can be left over.
    """
    tried: list[tuple[Loss, str, Candidate]] = []
    collapsed = problem.has_collapsed(scorer.ledger.best)
    for loss, origin in _targets(problem, min(budget.targets, 2) if collapsed else budget.targets):
        if scorer.ledger.nothing_left:
            break
        candidate = climb(
            scorer, _NAME, loss, start=problem.box.zero(), passes=budget.probe, origin=origin
        )
        if candidate is not None:
            tried.append((loss, origin, candidate))
    tried.sort(key=lambda entry: entry[2].key)
    results = [candidate for _, _, candidate in tried]
    for (loss, origin, first), passes in zip(
        tried, () if collapsed else budget.collapse, strict=False
    ):
        candidate = climb(
            scorer,
            _NAME,
            loss,
            start=first.pattern,
            passes=passes,
            first_step=_LATER_STEP,
            origin=origin,
            patience=PATIENCE,
        )
        results += [] if candidate is None else [candidate]
    return results


def _targets(problem: Problem, count: int) -> Sequence[tuple[Loss, str]]:
    """Return losses for the classes that are most often just behind the label, nearest first."""
    if problem.task.is_regression:
        return [(Shift(1.0), "all values up"), (Shift(-1.0), "all values down")][:count]
    return [
        (Collapse(target), f"onto class {target}") for target in nearest_classes(problem)[:count]
    ]


CLASS_COLLAPSE = Member(_NAME, _run)
