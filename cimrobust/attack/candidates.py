"""What short attacks share, whatever they climb on.

The patterns they start from, the way without gradients, and the score of the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.mapping.box import Pattern
from cimrobust.search.members.corner_search import CORNER_SEARCH
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import budget_of

NO_DEVIATION = "no deviation"
#: What starts and climbs add to the name of a pattern that is the corner beside one of theirs.
CORNER = ", corner"
#: Patterns of an attack that are scored on all samples: the best on the crafting samples need not
#: be the best on all.
SCORED = 3


def known_candidates(
    problem: Problem, member: str, known: Mapping[str, Pattern]
) -> list[Candidate]:
    """Return no deviation, and known patterns and their corners, as candidates.

    All are brought into the box and measured on the attack set.

    Args:
        problem: The search; its box may be any part of the tolerance box.
        member: Who the candidates are counted for.
        known: Patterns by origin.
    """
    inside = {NO_DEVIATION: problem.box.zero()}
    for origin, pattern in known.items():
        inside[origin] = problem.box.clip(pattern)
        inside[f"{origin}{CORNER}"] = problem.box.corner(inside[origin])
    keys = problem.measure(list(inside.values()))
    return [
        Candidate(pattern, key, origin, member)
        for (origin, pattern), key in zip(inside.items(), keys, strict=True)
    ]


def without_gradient(problem: Problem, evaluations: int) -> list[Candidate]:
    """Search without gradients, from zero."""
    return list(
        CORNER_SEARCH.run(problem, replace(budget_of("quick"), evaluations_alone=evaluations))
    )


def worst_of(
    problem: Problem, candidates: Sequence[Candidate]
) -> tuple[Score, np.ndarray, Candidate]:
    """Score candidates on all samples of a problem by the deployed engine.

    Return score, decision output and candidate of the worst.

    Of equals the first counts. Every pattern is checked to lie in the box first.
    """
    runtime, task = problem.runtime, problem.runtime.task
    best: tuple[Score, np.ndarray, Candidate] | None = None
    for candidate in candidates:
        problem.box.check(candidate.pattern, origin=candidate.member)
        output = runtime.outputs(problem.box.weights(candidate.pattern), threads=problem.workers)
        score = task.score(output)
        if best is None or task.is_worse(score, best[0]):
            best = (score, output, candidate)
    assert best is not None
    return best
