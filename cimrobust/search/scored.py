"""Patterns that count.

In the box, checked again here, and scored on all samples by the engine that the trials use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.data.decision import Score
from cimrobust.search.candidate import Candidate

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.search.problem import Problem


@dataclass(frozen=True)
class Scored:
    """A pattern and its score on all samples.

    Attributes:
        member: Member or origin that it is from.
        score: Score on all samples.
        smooth_accuracy: That on the attack set, for breaking ties.
        candidate: The pattern.
        origin: How its member came to it.
    """

    member: str
    score: Score
    smooth_accuracy: float
    candidate: Candidate
    origin: str = ""


def score_candidate(candidate: Candidate, problem: Problem) -> Scored:
    """Check that a pattern is in the box and score it on all samples.

    Raises:
        SelfCheckError: It leaves the box.
    """
    pattern = candidate.pattern
    problem.box.check(pattern, origin=candidate.member)
    weights = problem.box.weights(pattern)
    del pattern  # as large as the network, and not needed while that runs
    return scored(candidate, problem.runtime.score(weights, threads=problem.run.workers))


def scored(candidate: Candidate, score: Score) -> Scored:
    """Return a candidate with its score on all samples."""
    smooth = candidate.key.smooth_accuracy
    return Scored(candidate.member, score, smooth, candidate, candidate.origin)


def worst_of(runtime: Runtime, entries: Sequence[Scored]) -> Scored:
    """Return the entry with the worst score.

    Of equal ones that with the smaller smoothed accuracy, then the earlier.
    """
    sign = 1.0 if runtime.task.higher_is_better else -1.0
    return min(entries, key=lambda entry: (sign * entry.score.value, entry.smooth_accuracy))
