"""Patterns that the caller brings along.

To be scored beside those found, or for the search to go on from.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import numpy as np

from cimrobust.errors import UsageError
from cimrobust.mapping.box import Box, Pattern
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.scored import Scored, score_candidate
from cimrobust.search.search_results import MemberResult

#: Patterns by where they come from: deviations by initializer, float32.
Given = Mapping[str, Mapping[str, np.ndarray]]


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
    origin: str, deviations: Mapping[str, np.ndarray], problem: Problem
) -> tuple[Scored, MemberResult]:
    """Score a pattern, brought into the box."""
    begin = time.perf_counter()
    inside, note = _inside(problem.box, deviations)
    entry = score_candidate(Candidate(inside, (np.inf, np.inf), note, origin), problem)
    return entry, MemberResult(origin, entry.score, time.perf_counter() - begin, 0, 0, note)


def take_start(
    origin: str, deviations: Mapping[str, np.ndarray], problem: Problem
) -> tuple[Scored, MemberResult]:
    """Score a pattern, brought into the box, and offer it to the board.

    Members that go on from the best can then go on from it.
    """
    begin, evaluations = time.perf_counter(), problem.evaluations
    inside, note = _inside(problem.box, deviations)
    candidate = Candidate(inside, problem.measure([inside])[0], f"start, {note}", origin)
    problem.offer(candidate)
    problem.starts.append(candidate)
    entry = score_candidate(candidate, problem)
    seconds = time.perf_counter() - begin
    return entry, MemberResult(
        origin, entry.score, seconds, 0, problem.evaluations - evaluations, candidate.origin
    )


def _inside(box: Box, deviations: Mapping[str, np.ndarray]) -> tuple[Pattern, str]:
    inside = box.clip(deviations)
    moved = any(not np.array_equal(inside[name], deviations[name]) for name in inside)
    return inside, "brought to the border of the box" if moved else "given"
