"""Where the runs of a climb begin, and one climb after the other."""

from __future__ import annotations

from collections.abc import Sequence

from cimrobust.mapping.box import Pattern
from cimrobust.search.climb import PATIENCE, climb_in_turn
from cimrobust.search.losses import Loss
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.torch_patterns import array_of

_AVERAGED_POINTS = 4
_MOST_PATTERNS = 4


def climb_from_starts(
    problem: Problem, member: str, runs: Sequence[tuple[Sequence[Loss], int]]
) -> list[Candidate]:
    """Climb from zero, then from the corner of the averaged gradient, then from random corners.

    Args:
        problem: The search.
        member: Name of the member; keys its random numbers.
        runs: Losses and passes of every run, making the start included; the losses of a run take
            turns, each going on from the last.
    """
    results: list[Candidate] = []
    # Where the decisions have collapsed already, more of the same stays on the plateau: what is
    # spared goes into the ways below it.
    divisor = 2 if problem.has_collapsed() else 1
    for index, (losses, full) in enumerate(runs):
        passes = full // divisor
        if problem.nothing_left or problem.left < passes:
            break
        start, origin, spent = _start(problem, member, losses[0], index)
        results += climb_in_turn(
            problem,
            member,
            losses,
            start=start,
            passes=passes - spent,
            origin=origin,
            patience=PATIENCE,
        )
    return most_promising(results)


def most_promising(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidates of a member's runs, the worst for the network first.

    More than one, since the best on the crafting samples need not be the best on all.
    """
    return sorted(candidates, key=lambda candidate: candidate.key)[:_MOST_PATTERNS]


def needs_classes(problem: Problem) -> str:
    """Return why a member that needs decisions does not apply, or nothing."""
    return "a regression has no decisions" if problem.task.is_regression else ""


def _start(problem: Problem, member: str, loss: Loss, index: int) -> tuple[Pattern, str, int]:
    """Return the start of a run, its name, and the passes it took to make."""
    if index == 0:
        return problem.box.zero(), "from zero", 0
    if index == 1:
        return (
            _averaged_gradient(problem, member, loss),
            "from the averaged gradient",
            _AVERAGED_POINTS,
        )
    return (
        problem.box.random_corner(problem.random(member, "corner", index)),
        f"from random corner {index - 1}",
        0,
    )


def _averaged_gradient(problem: Problem, member: str, loss: Loss) -> Pattern:
    """Return the corner that the gradient, averaged over random points of the box, points to."""
    space = problem.space
    total: Pattern = problem.box.zero()
    for index in range(_AVERAGED_POINTS):
        point = problem.box.random_interior(problem.random(member, "interior", index))
        evaluation = problem.step(
            space.pattern(space.unit(point)), loss, problem.scale_at(point, loss)
        )
        total = {name: total[name] + array_of(evaluation.gradients[name]) for name in total}
    return problem.box.corner(total)
