"""Patterns that the caller brings along.

To be scored beside those found, or for the search to go on from.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.errors import UsageError
from cimrobust.search.candidate import Candidate, Key
from cimrobust.search.scored import Scored, score_candidate
from cimrobust.search.search_results import MemberResult

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer

#: Patterns by where they come from: deviations by initializer, float32.
Given = Mapping[str, Mapping[str, Float32[np.ndarray, "..."]]]


def check_given(box: Box, patterns: Given, *, taken: Iterable[str]) -> None:
    """Check that given patterns have names of their own and the weights of the box.

    Raises:
        UsageError: A name is that of a member, or a pattern has other weights.
    """
    reserved = set(taken)
    shapes = {name: array.shape for name, array in box.nominal.items()}
    for origin, deviations in patterns.items():
        if origin in reserved:
            raise UsageError(
                f"given pattern must have a name of its own, got '{origin}', which is taken; name"
                " it after where it is from"
            )
        if {name: np.shape(array) for name, array in deviations.items()} != shapes:
            raise UsageError(
                f"given pattern must deviate the weights {sorted(shapes)} in their own shapes, got"
                f" others ('{origin}')"
            )


def score_known(
    problem: Problem, origin: str, deviations: Mapping[str, Float32[np.ndarray, "..."]]
) -> tuple[Scored, MemberResult]:
    """Score a pattern, brought into the box, on all samples."""
    begin = time.perf_counter()
    inside, note = _inside(problem.box, deviations)
    candidate = Candidate(inside, Key(np.inf, np.inf), note, origin).shelved(problem.box)
    del inside
    entry = score_candidate(candidate, problem)
    return entry, MemberResult(origin, entry.score, time.perf_counter() - begin, 0, 0, note)


def take_start(
    scorer: Scorer, origin: str, deviations: Mapping[str, Float32[np.ndarray, "..."]]
) -> tuple[Candidate, Scored, MemberResult]:
    """Score a pattern, brought into the box, for members to go on from.

    On the attack set, and on all samples.
    """
    begin, evaluations = time.perf_counter(), scorer.ledger.evaluations
    inside, note = _inside(scorer.problem.box, deviations)
    key = scorer.score([inside])[0]
    candidate = Candidate(inside, key, f"start, {note}", origin).shelved(scorer.problem.box)
    del inside
    scorer.ledger.record(candidate.key)
    entry = score_candidate(candidate, scorer.problem)
    seconds, runs = time.perf_counter() - begin, scorer.ledger.evaluations - evaluations
    row = MemberResult(origin, entry.score, seconds, 0, runs, candidate.origin)
    return candidate, entry, row


def _inside(box: Box, deviations: Mapping[str, Float32[np.ndarray, "..."]]) -> tuple[Pattern, str]:
    inside = box.clip(deviations)
    moved = any(not np.array_equal(inside[name], deviations[name]) for name in inside)
    return inside, "brought to the border of the box" if moved else "given"
