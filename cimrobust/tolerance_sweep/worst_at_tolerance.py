"""What a sweep finds at one tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.decision import Score
from cimrobust.mapping.box import Pattern
from cimrobust.tolerance_sweep.sweep_records import SweptMember

if TYPE_CHECKING:
    from cimrobust.array_shapes import Bool
    from cimrobust.search.search_results import SearchResult


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
    members: tuple[SweptMember, ...]
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
    certified: Bool[np.ndarray, "samples"] | None
    not_tried: int
    reason: str


def worst_of_search(tolerance: float, found: SearchResult) -> Worst:
    """Return what a search found at a tolerance."""
    members = tuple(
        SweptMember.of(row.name, row.score, row.passes)
        for row in found.members
        if row.score is not None
    )
    return Worst(
        tolerance=tolerance,
        score=found.score,
        file_score=found.file_score,
        member=found.member,
        pattern=dict(found.deviations),
        passes=found.passes,
        evaluations=found.evaluations,
        replay_note=found.replay_note,
        members=members,
        has_twin=found.has_twin,
    )
