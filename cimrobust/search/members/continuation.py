"""Member: go on from the best patterns so far.

From a collapsed state (little more is right than one class) on the decisions that are still right,
which leads below the plateau; from any
other state on smoothed accuracy with sharper edges. The error of a regression has many valleys, so
there the ends of several runs are gone on from.
"""

from __future__ import annotations

from collections.abc import Sequence

from cimrobust.search.climb import climb_in_turn
from cimrobust.search.losses import Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_results import Member
from cimrobust.search.starts import most_promising

NAME = "continuation"
_FIRST_STEP = 0.5
# Passes of a round, and the share of the right decisions that it has to turn for another one to
# follow.
_ROUND = 60
_WORTHWHILE = 0.01
# Passes without fewer right decisions that a collapsed state is given: longer than for members that
# begin at zero, since every decision that turns from here on has been out of reach before.
_PATIENCE = 12
# States that a regression is gone on from: the valley that is the deepest after few passes need not
# stay so.
_VALLEYS = 4


def _run(problem: Problem, budget: Budget) -> list[Candidate]:
    """Go on from the best of several members, then from the best of all for as long as that helps.

    Passes that earlier members did not need are added.
    """
    earlier = _earlier(problem, len(budget.continuation))
    granted = sum(budget.continuation) + problem.spare
    planned = max(len(budget.continuation), len(earlier))
    rounds = max(planned, granted // _ROUND)
    results: list[Candidate] = []
    for index in range(rounds):
        before = problem.board.best()[0]
        start = earlier[index] if index < len(earlier) else before
        results += _go_on(problem, start, granted // rounds)
        if index >= planned - 1 and not _helped(problem, before):
            break
    return most_promising(results)


def _earlier(problem: Problem, count: int) -> list[Candidate]:
    """Return what is gone on from first.

    The best of as many members, for a regression the ends of several runs.
    """
    best = problem.board.best()
    if not problem.task.is_regression:
        return best[:count]
    # Patterns of the same key are the same state, reached twice.
    apart = {
        candidate.key: candidate
        for candidate in sorted([*best, *problem.ends], key=lambda candidate: candidate.key)
    }
    return list(apart.values())[:_VALLEYS]


def _go_on(problem: Problem, start: Candidate, passes: int) -> list[Candidate]:
    origin = f"after {start.member}"
    return climb_in_turn(
        problem,
        NAME,
        _losses(problem, start),
        start=start.pattern,
        passes=passes,
        first_step=_FIRST_STEP,
        origin=origin,
        patience=_PATIENCE,
    )


def _helped(problem: Problem, before: Candidate) -> bool:
    """Return whether the last round broke enough of the decisions that were correct before it.

    Enough is at least a hundredth of those that the best before it had left, and one decision.
    """
    gain = before.key[0] - problem.board.best()[0].key[0]
    return gain > 0 and gain >= _WORTHWHILE * abs(before.key[0])


def _losses(problem: Problem, start: Candidate) -> Sequence[Loss]:
    if problem.task.is_regression:
        return [RegressionError(problem.task.metric)]
    if problem.has_collapsed(start):
        return [Hinge(0.0), SmoothAccuracy(0.05)]
    return (
        [SmoothAccuracy(0.1), SmoothAccuracy(0.05)] if problem.sees_all else [SmoothAccuracy(0.1)]
    )


CONTINUATION = Member(NAME, _run)
