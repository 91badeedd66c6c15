"""Scores without deviation, and what the finite evaluation set leaves open."""

from __future__ import annotations

from cimrobust.records import Count, Fraction, Record


class ClassRow(Record):
    """Right decisions of one class, without deviation and under the witness."""

    label: int
    """Class, as an index."""
    samples: Count
    """Decisions of the class."""
    clean: Count
    """Correct decisions without deviation."""
    worst: Count
    """Correct decisions on the worst chip found."""


class Clean(Record):
    """Scores without deviation."""

    score: float
    """Score of the model file."""
    correct: Count | None
    """Its correct decisions; null for a regression."""
    samples: Count
    """Decisions that it counts."""
    quantised_score: float
    """Score with quantised weights."""
    quantised_correct: Count | None
    """Its correct decisions; null for a regression."""
    per_class: list[ClassRow] | None
    """Correct decisions by class."""
    per_class_reason: str | None
    """Why there are none."""


class NotRun(Record):
    """A member of the search ensemble that does not apply to this network."""

    name: str
    """Name of what was not run."""
    reason: str
    """Why it was not run."""


class SampleInterval(Record):
    """What the samples say of one accuracy on the distribution they were drawn from.

    The chips are given.
    """

    name: str
    """Name of the score."""
    score: Fraction
    """The score on these samples."""
    low: Fraction
    """Lower end of the interval."""
    high: Fraction
    """Upper end of the interval."""
    method: str
    """How the interval is made."""
    statement: str
    """The result as a sentence."""
    caveat: str | None
    """What it does not hold for; null: nothing."""


class EvaluationSet(Record):
    """The finite evaluation set as an uncertainty of its own.

    `most_decisions` is how many decisions a sample may have, null: all have as many.
    """

    samples: Count
    """Independent samples."""
    decisions: Count
    """Decisions made on them."""
    most_decisions: Count | None = None
    """Most decisions that one sample counts; null: all samples count as many."""
    confidence: Fraction
    """Confidence of every interval on its own."""
    intervals: list[SampleInterval]
    """One interval for each accuracy."""
    not_stated: list[NotRun]
    """Scores without interval, and why."""
