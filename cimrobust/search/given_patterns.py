"""Patterns that the caller brings along.

To be scored beside those found, or for the search to go on from; the witness of another network
with the same layers among them, every weight at the same fraction of its own interval.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.errors import UsageError
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.search.candidate import Candidate, Key
from cimrobust.search.scored import Scored, score_candidate
from cimrobust.search.search_results import MemberResult
from cimrobust.search.witness import DEVIATIONS_FILE

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.mapping.placement import Placement
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


def transferred_pattern(folder: Path, placement: Placement) -> Pattern:
    """Return the pattern that a witness is in another box.

    Args:
        folder: Folder of the witness, as `write_witness` wrote it.
        placement: Layers of the other network.

    Raises:
        UsageError: The layers are not the same.
        InputRefusedError: There is no such witness, or its file is corrupt.
    """
    path = folder / DEVIATIONS_FILE
    tensors = read_pattern(path, what="witness")
    pattern: Pattern = {}
    for name, tensor in placement.tensors.items():
        parts = [tensors.get(f"{name}.{part}") for part in ("lo", "hi", "deviation")]
        if any(part is None or part.shape != tensor.shape for part in parts):
            raise UsageError(
                f"witness must deviate the same layers, got none of shape {tensor.shape} for"
                f" '{name}' ({path}); give the witness of the same network"
            )
        pattern[name] = _carried(parts, *tensor.limits())
    return pattern


def _carried(
    parts: list[Shaped[np.ndarray, "*weight"] | None],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
) -> Float32[np.ndarray, "*weight"]:
    low, high, deviation = (np.asarray(part, np.float64) for part in parts)
    end = np.where(deviation > 0, high, low)
    fraction = np.divide(deviation, end, out=np.zeros_like(end), where=end != 0)
    moved = np.where(deviation > 0, hi, lo) * np.clip(fraction, 0.0, 1.0)
    return np.asarray(np.clip(moved, lo, hi), dtype=np.float32)
