"""One attack: from known patterns and from scratch, for the worst pattern of a box.

Scores come from the deployed engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.decision import Score
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.box import Pattern
from cimrobust.search.candidate import Candidate
from cimrobust.search.climb import CORNER, climb_in_turn
from cimrobust.search.members.gradient_free import search_corners

if TYPE_CHECKING:
    from cimrobust.attack.attack_plan import AttackPlan, Climb
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer

NO_DEVIATION = "no deviation"
_NAME = "attack"
# Patterns of an attack that are scored on all samples: the best on the attack set need not be the
# best on all.
_SCORED = 3


@dataclass(frozen=True)
class Attack:
    """What one attack found.

    Attributes:
        pattern: The worst pattern it knows of, inside its box.
        score: Its score on all samples attacked, by the deployed engine.
        output: Decision output on these samples.
        origin: How the pattern was reached.
        points: Patterns that its climbs ended at, the worst for the network first.
        passes: Forward-backward passes over the attack set.
        evaluations: Forward runs over the attack set.
        num_scored: Patterns that were run on all samples.
        attack_samples: Samples that patterns were made on.
    """

    pattern: Pattern
    score: Score
    output: Shaped[np.ndarray, "samples ..."]
    origin: str
    points: tuple[Pattern, ...]
    passes: int
    evaluations: int
    num_scored: int
    attack_samples: int

    @property
    def runs(self) -> int:
        """Forward runs, over the attack set or over all samples."""
        return self.evaluations + self.num_scored


def attack(scorer: Scorer, plan: AttackPlan, known: Mapping[str, Pattern]) -> Attack:
    """Look for a pattern of a box that is as bad as possible.

    Args:
        scorer: Scores patterns; the box of its problem may be any part of the tolerance box.
        plan: What may be spent.
        known: Known patterns by origin, brought into the box.
    """
    candidates = known_candidates(scorer, known)
    # Steps on vectors are too short to share: more torch threads only wait for each other.
    with one_torch_thread():
        if scorer.problem.oracle is None:
            candidates.append(search_corners(scorer, plan.evaluations))
        else:
            best_known = min(candidates, key=lambda candidate: candidate.key)
            for climb in plan.climbs(scorer.problem):
                candidates += _run(climb, scorer, best_known, candidates)
    ranked = sorted(candidates, key=lambda candidate: candidate.key)
    scored = ranked[:_SCORED]
    if plan.scores_zero:
        scored += [candidate for candidate in candidates if candidate.origin == NO_DEVIATION]
    score, output, worst = worst_on_all(scorer.problem, scored)
    return Attack(
        pattern=worst.pattern,
        score=score,
        output=output,
        origin=worst.origin,
        points=tuple(candidate.pattern for candidate in ranked),
        passes=scorer.ledger.passes,
        evaluations=scorer.ledger.evaluations,
        num_scored=len(scored),
        attack_samples=len(scorer.problem.attack_set),
    )


def _run(
    climb: Climb, scorer: Scorer, best_known: Candidate, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """Run one climb, from where it begins."""
    start, origin = scorer.problem.box.zero(), climb.origin
    if climb.start == "known":
        start, origin = best_known.pattern, f"from {best_known.origin.removesuffix(CORNER)}"
    elif climb.start == "best":
        best = min(candidates, key=lambda candidate: candidate.key)
        start, origin = best.pattern, _after(best.origin)
    found = climb_in_turn(
        scorer,
        _NAME,
        climb.losses,
        start=start,
        passes=climb.passes,
        first_step=climb.first_step,
        origin=origin,
    )
    return found if climb.keeps_all else found[-1:]


def _after(origin: str) -> str:
    """Return the origin of what goes on from a candidate; of a chain the first link is named."""
    first = origin.removesuffix(CORNER)
    return first if first.startswith("after ") else f"after {first}"


def known_candidates(scorer: Scorer, known: Mapping[str, Pattern]) -> list[Candidate]:
    """Return no deviation, and known patterns and their corners, brought into the box.

    All are scored on the attack set.

    Args:
        scorer: Scores patterns.
        known: Patterns by origin.
    """
    box = scorer.problem.box
    inside = {NO_DEVIATION: box.zero()}
    for origin, pattern in known.items():
        inside[origin] = box.clip(pattern)
        inside[f"{origin}{CORNER}"] = box.corner(inside[origin])
    keys = scorer.score(list(inside.values()))
    return [
        Candidate(pattern, key, origin, _NAME)
        for (origin, pattern), key in zip(inside.items(), keys, strict=True)
    ]


def worst_on_all(
    problem: Problem, candidates: Sequence[Candidate]
) -> tuple[Score, Shaped[np.ndarray, "samples ..."], Candidate]:
    """Score candidates on all samples of a problem by the deployed engine.

    Return score, decision output and candidate of the worst.

    Of equals the first counts. Every pattern is checked to lie in the box first.
    """
    runtime, task = problem.runtime, problem.runtime.task
    best: tuple[Score, Shaped[np.ndarray, "samples ..."], Candidate] | None = None
    for candidate in candidates:
        pattern = candidate.pattern
        problem.box.check(pattern, origin=candidate.member)
        weights = problem.box.weights(pattern)
        del pattern
        output = runtime.outputs(weights, threads=problem.run.workers)
        score = task.score(output)
        if best is None or task.is_worse(score, best[0]):
            best = (score, output, candidate)
    assert best is not None
    return best
