"""Members that climb on one loss: a table of them, and the runner of all.

Each climbs from zero, then from the corner of the averaged gradient, then from random corners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cimrobust.search.climb import PATIENCE, climb_in_turn
from cimrobust.search.losses import (
    CrossEntropy,
    Hinge,
    Loss,
    MarginRatio,
    RegressionError,
    SmoothAccuracy,
)
from cimrobust.search.members.member_protocol import Applies, Member, needs_classes
from cimrobust.search.problem import Problem
from cimrobust.search.search_budget import Budget
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    from cimrobust.mapping.box import Pattern
    from cimrobust.search.candidate import Candidate, Earlier
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.scorer import Scorer

REGRESSION_ERROR = "regression_error"
_ENTROPY = "cross_entropy"
_AVERAGED_POINTS = 4
# First step, in half-widths of the box, of a run that goes on from another member's pattern.
_LATER_STEP, _FIRST_STEP = 0.5, 2.0
# Widths of the edge of smoothed accuracy, in median margins. Cooling down from a wide edge to a
# sharp one finds 3 to 6 points more on the attack set than one width; on samples it has not seen,
# sharp edges lose what they gained (measured on three networks, 500 of 5000 samples).
_COOLING = (0.5, 0.2, 0.1, 0.05)
_STEADY = ((0.25,), (0.5, 0.25), (0.5, 0.2, 0.1))
# Widths of hard steps, in standard deviations of what is compared, of a run on so many losses: from
# wide, where every step pulls, to narrow, where those about to turn do.
_NARROWING = {4: (1.0, 0.3, 0.1, 0.03), 3: (1.0, 0.3, 0.1), 2: (0.3, 0.1)}
# How far beyond the boundary a decision counts for the hinge, in median margins; used in turn.
_REACHES = (0.0, 0.2)
# Runs of a regression. Which way an error grows is settled early: the values that can be pushed
# furthest, and the direction, are those of the valley that a run begins in. So there are many short
# runs, and the best of them, not only the very best, are what continuation goes on from.
_RUNS = 10


@dataclass(frozen=True)
class _Row:
    """One member of the table.

    Attributes:
        name: Its name.
        losses: Losses of a run by its number; each goes on from where the one before ended.
        passes: Passes of every run, making the start included.
        applies: Tells whether it makes sense, and if not why.
        averages: The second run begins at the corner of the averaged gradient; False: at a random
            one.
        follows: Member from whose best pattern the first run goes on, while decisions have not
            collapsed; not where the network has hard steps.
    """

    name: str
    losses: Callable[[Problem, int], Sequence[Loss]]
    passes: Callable[[Budget], Sequence[int]]
    applies: Applies = needs_classes
    averages: bool = True
    follows: str = ""


def _smooth(problem: Problem, number: int) -> list[Loss]:
    widths = _COOLING if problem.sees_all else _STEADY[number % len(_STEADY)]
    return [SmoothAccuracy(width) for width in widths]


def _error(problem: Problem, number: int) -> list[Loss]:
    return [RegressionError(problem.task.metric)]


def _shared_out(budget: Budget) -> list[int]:
    """Return the passes of the members that need decisions, in equal shares."""
    granted = sum((*budget.smooth, *budget.hinge, *budget.entropy, *budget.ratio))
    return [granted * (index + 1) // _RUNS - granted * index // _RUNS for index in range(_RUNS)]


def _three_classes(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    if problem.oracle is not None and not problem.task.is_regression and problem.num_classes < 3:
        return f"needs three classes, the decision has {problem.num_classes}"
    return needs_classes(problem, ledger, earlier)


def _regression(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    return "" if problem.task.is_regression else "only for regressions"


# Cross-entropy, which rewards hopeless samples, and so sees far: it finds the valley and wins where
# margins are flat. From there the loss nearest to what is counted, which from zero ends in the next
# valley at hand (docs/lab-book/search.md). Margins of the decisions that are still correct, and of
# no others: linear, so that those correct by far keep pulling, the way around "everything is class
# c", where bounded losses stop. The margin ratio (DLR), which neither shift nor scale of the logits
# can mask. The error of a regression.
_TABLE = (
    _Row(_ENTROPY, lambda problem, number: [CrossEntropy()], lambda budget: budget.entropy),
    _Row("smooth_accuracy", _smooth, lambda budget: budget.smooth, follows=_ENTROPY),
    _Row(
        "margin_hinge",
        lambda problem, number: [Hinge(_REACHES[number % len(_REACHES)])],
        lambda budget: budget.hinge,
    ),
    _Row(
        "dlr",
        lambda problem, number: [MarginRatio()],
        lambda budget: budget.ratio,
        applies=_three_classes,
    ),
    _Row(REGRESSION_ERROR, _error, _shared_out, applies=_regression, averages=False),
)


def _run(
    row: _Row, problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier
) -> list[Candidate]:
    results: list[Candidate] = []
    # Where the decisions have collapsed already, more of the same stays on the plateau: what is
    # spared goes into the ways below it.
    divisor = 2 if problem.has_collapsed(scorer.ledger.best) else 1
    for number, full in enumerate(row.passes(budget)):
        passes = full // divisor
        if scorer.ledger.nothing_left or scorer.ledger.left < passes:
            break
        losses = row.losses(problem, number)
        start, origin, spent = _start(row, scorer, losses[0], number, earlier)
        results += climb_in_turn(
            scorer,
            row.name,
            losses,
            start=start,
            passes=passes - spent,
            first_step=_LATER_STEP if origin.startswith("after") else _FIRST_STEP,
            origin=origin,
            patience=PATIENCE,
            widths=_NARROWING[len(losses)] if len(losses) > 1 else (),
        )
    return results


def _start(
    row: _Row, scorer: Scorer, loss: Loss, number: int, earlier: Earlier
) -> tuple[Pattern, str, int]:
    """Return the start of a run, its name, and the passes it took to make."""
    problem = scorer.problem
    before = min(earlier.of(row.follows), key=lambda candidate: candidate.key, default=None)
    # With hard steps a run begins with the widest, which undo what narrower ones have found.
    leads_on = before is not None and not (
        problem.has_collapsed(before.key.score) or scorer.oracle.has_hard_steps
    )
    if number == 0 and before is not None and leads_on:
        return before.pattern, f"after {row.follows}", 0
    if number == 0:
        return problem.box.zero(), "from zero", 0
    if row.averages and number == 1:
        averaged = _averaged_gradient(scorer, row.name, loss)
        return averaged, "from the averaged gradient", _AVERAGED_POINTS
    corner = problem.box.random_corner(problem.random(row.name, "corner", number))
    return corner, f"from random corner {number - row.averages}", 0


def _averaged_gradient(scorer: Scorer, member: str, loss: Loss) -> Pattern:
    """Return the corner that the gradient, averaged over random points of the box, points to."""
    problem, space = scorer.problem, scorer.problem.space
    total: Pattern = problem.box.zero()
    for index in range(_AVERAGED_POINTS):
        point = problem.box.random_interior(problem.random(member, "interior", index))
        evaluation = scorer.evaluate(
            space.pattern(space.unit(point)), loss, scorer.scale_at(point, loss)
        )
        total = {name: total[name] + array_of(evaluation.gradients[name]) for name in total}
    return problem.box.corner(total)


#: The members of the table, in its order.
LOSS_MEMBERS = tuple(Member(row.name, partial(_run, row), row.applies) for row in _TABLE)
