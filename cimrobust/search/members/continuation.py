"""Member: go on from the best patterns so far.

From a collapsed state (little more is correct than one class) on the decisions that are still
correct, which leads below the plateau; from any other state on smoothed accuracy with sharper
edges. The error of a regression has many valleys, so there the ends of several runs are gone on
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cimrobust.search.climb import climb_in_turn
from cimrobust.search.losses import Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.members.loss_members import REGRESSION_ERROR
from cimrobust.search.members.member_protocol import Member

if TYPE_CHECKING:
    from cimrobust.search.candidate import Candidate, Earlier
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget

_NAME = "continuation"
_FIRST_STEP = 0.5
# Passes of a round, and the share of the correct decisions that it has to turn for another one to
# follow.
_ROUND = 60
_WORTHWHILE = 0.01
# Passes without fewer correct decisions that a collapsed state is given: longer than for members
# that begin at zero, since every decision that turns from here on was out of reach before.
_PATIENCE = 12
# Width of hard steps: narrow, since the steps that are about to turn are what is left.
_WIDTH = 0.1
# States that a regression is gone on from: the valley that is the deepest after few passes need not
# stay so.
_VALLEYS = 4


def _run(problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier) -> list[Candidate]:
    """Go on from the best of several members, then from the best of all for as long as that helps.

    Passes that earlier members did not need are added.
    """
    first = _first(problem, earlier, len(budget.continuation))
    granted = sum(budget.continuation) + scorer.ledger.spare
    planned = max(len(budget.continuation), len(first))
    rounds = max(planned, granted // _ROUND)
    results: list[Candidate] = []
    for index in range(rounds):
        before = _best(earlier, results)
        start = first[index] if index < len(first) else before
        results += _go_on(scorer, start, granted // rounds)
        if index >= planned - 1 and not _helped(before, _best(earlier, results)):
            break
    return results


def _best(earlier: Earlier, results: Sequence[Candidate]) -> Candidate:
    """Return the best of all members and of this one's runs; of equal ones the earlier."""
    return min([*earlier.best[:1], *results], key=lambda candidate: candidate.key)


def _first(problem: Problem, earlier: Earlier, count: int) -> list[Candidate]:
    """Return what is gone on from first.

    The best of as many members, for a regression the ends of several runs.
    """
    if not problem.task.is_regression:
        return list(earlier.best[:count])
    # Patterns of the same key are the same state, reached twice.
    apart = {
        candidate.key: candidate
        for candidate in sorted(
            [*earlier.best, *earlier.of(REGRESSION_ERROR)], key=lambda candidate: candidate.key
        )
    }
    return list(apart.values())[:_VALLEYS]


def _go_on(scorer: Scorer, start: Candidate, passes: int) -> list[Candidate]:
    losses = _losses(scorer.problem, start)
    return climb_in_turn(
        scorer,
        _NAME,
        losses,
        start=start.pattern,
        passes=passes,
        first_step=_FIRST_STEP,
        origin=f"after {start.member}",
        patience=_PATIENCE,
        widths=[_WIDTH] * len(losses),
    )


def _helped(before: Candidate, after: Candidate) -> bool:
    """Tell whether a round helped.

    It took at least a hundredth of what the best before it had left correct, and one decision.
    """
    gain = before.key.score - after.key.score
    return gain > 0 and gain >= _WORTHWHILE * abs(before.key.score)


def _losses(problem: Problem, start: Candidate) -> Sequence[Loss]:
    if problem.task.is_regression:
        return [RegressionError(problem.task.metric)]
    if problem.has_collapsed(start.key.score):
        return [Hinge(0.0), SmoothAccuracy(0.05)]
    return (
        [SmoothAccuracy(0.1), SmoothAccuracy(0.05)] if problem.sees_all else [SmoothAccuracy(0.1)]
    )


CONTINUATION = Member(_NAME, _run)
