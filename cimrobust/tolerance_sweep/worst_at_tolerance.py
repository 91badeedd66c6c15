"""What a sweep finds at one tolerance, and the form in which it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.mapping.box import Pattern
from cimrobust.search.search_results import SearchResult
from cimrobust.tolerance_sweep.sweep_memory import Part


@dataclass(frozen=True)
class MemberScore:
    """What one member of a search found."""

    name: str
    score: Score
    passes: int


@dataclass(frozen=True)
class Worst:
    """The worst chip found at one tolerance, replayed from its file.

    Attributes:
        tolerance: Fraction of the full conductance range.
        score: Its score; with converters, that of the kernel.
        file_score: Score of the model file in a fresh onnxruntime session.
        member: What found it.
        pattern: Deviations by initializer.
        passes: Forward-backward passes at this tolerance.
        evaluations: Forward runs.
        replay_note: How the replay was run.
        members: Members of the search.
        has_twin: Whether there were gradients.
    """

    tolerance: float
    score: Score
    file_score: Score
    member: str
    pattern: Pattern
    passes: int
    evaluations: int
    replay_note: str
    members: tuple[MemberScore, ...]
    has_twin: bool


@dataclass(frozen=True)
class Proof:
    """What is proven at one tolerance.

    Attributes:
        score: Certified score; None: see `reason`.
        certified: Samples that no chip can break; None without a bound, and for a regression.
        not_tried: Samples left out at this effort, which count as not certified.
        reason: Why there is no bound; empty where there is one.
    """

    score: Score | None
    certified: np.ndarray | None
    not_tried: int
    reason: str


def part_of_search(found: SearchResult) -> Part:
    """Return what to remember of a search."""
    members = [
        [row.name, _numbers(row.score), row.passes]
        for row in found.members
        if row.score is not None
    ]
    values = {
        "score": _numbers(found.score),
        "file_score": _numbers(found.file_score),
        "member": found.member,
        "passes": found.passes,
        "evaluations": found.evaluations,
        "replay_note": found.replay_note,
        "members": members,
        "has_twin": found.has_twin,
    }
    return values, dict(found.deviations)


def part_of_worst(worst: Worst) -> Part:
    """Return what to remember of a chip."""
    values = {
        "score": _numbers(worst.score),
        "file_score": _numbers(worst.file_score),
        "member": worst.member,
        "passes": worst.passes,
        "evaluations": worst.evaluations,
        "replay_note": worst.replay_note,
        "members": [[row.name, _numbers(row.score), row.passes] for row in worst.members],
        "has_twin": worst.has_twin,
    }
    return values, worst.pattern


def worst_of(tolerance: float, part: Part) -> Worst:
    """Return a chip that was remembered."""
    values, arrays = part
    plain: Mapping[str, Any] = {
        key: values[key] for key in ("member", "passes", "evaluations", "replay_note", "has_twin")
    }
    return Worst(
        tolerance=tolerance,
        score=Score(*values["score"]),
        file_score=Score(*values["file_score"]),
        pattern=dict(arrays),
        members=tuple(
            MemberScore(name, Score(*score), passes) for name, score, passes in values["members"]
        ),
        **plain,
    )


def _numbers(score: Score) -> list[Any]:
    return [score.value, score.count, score.num_samples]
