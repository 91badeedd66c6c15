"""What sweep.json states of a search as it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.records import Count, Record, finite

if TYPE_CHECKING:
    from cimrobust.data import decision


class SweptMember(Record):
    """What one member of the search found at a tolerance, on all samples."""

    name: str
    """Name of the member."""
    score: float
    """Score of its best pattern on all samples."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    passes: Count
    """Forward and backward passes over the attack set."""

    @classmethod
    def of(cls, name: str, score: decision.Score, passes: int) -> SweptMember:
        """Return what a member found."""
        return cls(name=name, score=finite(score.value), correct=score.count, passes=passes)
