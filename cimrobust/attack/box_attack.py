"""A short attack on a restricted box.

From scratch, and from patterns known from a larger or smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cimrobust.attack.candidates import SCORED, known_candidates, without_gradient, worst_of
from cimrobust.data.decision import Score
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.box import Pattern
from cimrobust.search.climb import climb, climb_in_turn
from cimrobust.search.losses import (
    Collapse,
    CrossEntropy,
    Hinge,
    Loss,
    RegressionError,
    SmoothAccuracy,
)
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.targets import nearest_classes

_MEMBER = "restricted box"
_LATER_STEP = 0.5


@dataclass(frozen=True)
class AttackPlan:
    """Passes of one attack.

    Attributes:
        cooling: From zero on smoothed accuracy, its edge getting sharper.
        hinge: From zero on the margins of right decisions.
        entropy: From zero on cross-entropy.
        collapse: Onto each of the two nearest classes.
        onward: From the best of these and of the known patterns.
        evaluations: Evaluations of the gradient-free search that takes their place where there is
            no twin.
    """

    cooling: int = 20
    hinge: int = 10
    entropy: int = 6
    collapse: int = 6
    onward: int = 16
    evaluations: int = 240

    def scaled(self, factor: float) -> AttackPlan:
        """Return a plan of another length."""
        return AttackPlan(
            **{name: max(round(factor * count), 1) for name, count in vars(self).items()}
        )


@dataclass(frozen=True)
class BoxAttack:
    """What an attack found.

    Attributes:
        score: Worst score on all samples, by the deployed engine.
        pattern: The pattern.
        origin: How it was reached.
        points: Patterns that different losses ended at, the worst for the network first.
    """

    score: Score
    pattern: Pattern
    origin: str
    points: tuple[Pattern, ...]


def attack_box(problem: Problem, known: Mapping[str, Pattern], plan: AttackPlan) -> BoxAttack:
    """Look for the worst pattern of a problem's box.

    Args:
        problem: The search; its box may be any part of the tolerance box.
        known: Patterns by origin, brought into the box.
        plan: What may be spent.
    """
    candidates = known_candidates(problem, _MEMBER, known)
    with one_torch_thread():
        if problem.oracle is None:
            candidates += without_gradient(problem, plan.evaluations)
        else:
            candidates += _climbs(problem, candidates, plan)
    ranked = sorted(candidates, key=lambda candidate: candidate.key)
    score, _, worst = worst_of(problem, ranked[:SCORED])
    return BoxAttack(
        score, worst.pattern, worst.origin, tuple(candidate.pattern for candidate in ranked)
    )


def _climbs(problem: Problem, known: list[Candidate], plan: AttackPlan) -> list[Candidate]:
    zero = problem.box.zero()
    if problem.task.is_regression:
        error = RegressionError(problem.task.metric)
        runs: list[tuple[list[Loss], int, str]] = [
            (
                [error],
                plan.cooling + plan.hinge + plan.entropy + 2 * plan.collapse,
                "error from zero",
            )
        ]
        later: list[Loss] = [error]
    else:
        runs = [
            ([SmoothAccuracy(0.5), SmoothAccuracy(0.2)], plan.cooling, "smooth accuracy from zero")
        ]
        runs += [
            ([Hinge(0.0)], plan.hinge, "hinge from zero"),
            ([CrossEntropy()], plan.entropy, "cross-entropy from zero"),
        ]
        runs += [
            ([Collapse(target)], plan.collapse, f"onto class {target}")
            for target in nearest_classes(problem)[:2]
        ]
        later = [SmoothAccuracy(0.1), Hinge(0.0)]
    made: list[Candidate] = []
    for losses, passes, origin in runs:
        made += climb_in_turn(problem, _MEMBER, losses, start=zero, passes=passes, origin=origin)[
            -1:
        ]
    best = min([*known, *made], key=lambda candidate: candidate.key)
    share = plan.onward // len(later)
    for loss in later:
        onward = climb(
            problem,
            _MEMBER,
            loss,
            start=best.pattern,
            passes=share,
            first_step=_LATER_STEP,
            origin=f"after {best.origin}",
        )
        if onward is not None:
            made.append(onward)
            best = min(best, onward, key=lambda candidate: candidate.key)
    return made
