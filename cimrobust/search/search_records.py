"""What certificates state of a search."""

from __future__ import annotations

from cimrobust.records import Count, Record, Rows, Score, Seconds


class Warned(Record):
    """A named warning."""

    code: str
    """Stable name of the warning."""
    text: str
    """The warning."""


class EffortPoint(Record):
    """The search became better; the score is that on the attack set."""

    passes: Count
    """Passes so far."""
    seconds: Seconds
    """Seconds so far."""
    score: Score
    """Best score so far on the attack set."""


class EffortCurve(Record):
    """How fast the search became as good as it is.

    `near` is where it came within a factor of 1.1 of its last score.
    """

    points: Rows[EffortPoint]
    """Every improvement."""
    near: EffortPoint
    """Where the score came within a factor of 1.1 of its last."""
