"""Scores without deviation, and what the finite evaluation set leaves open."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count, Fraction


class ClassRow(Block):
    """Right decisions of one class, without deviation and under the witness."""

    label: int
    samples: Count
    clean: Count
    worst: Count


class Clean(Block):
    """Scores without deviation."""

    score: float
    correct: Count | None
    samples: Count
    quantised_score: float
    quantised_correct: Count | None
    per_class: list[ClassRow] | None
    per_class_reason: str | None


class NotRun(Block):
    """A member of the search ensemble that does not apply to this network."""

    name: str
    reason: str


class SampleInterval(Block):
    """What the samples say of one accuracy on the distribution they were drawn from; chips given."""

    name: str
    score: Fraction
    low: Fraction
    high: Fraction
    method: str
    statement: str
    caveat: str | None


class EvaluationSet(Block):
    """The finite evaluation set as an uncertainty of its own; `most_decisions` is how many decisions a sample may have, null: all have as many."""

    samples: Count
    decisions: Count
    most_decisions: Count | None = None
    confidence: Fraction
    intervals: list[SampleInterval]
    not_stated: list[NotRun]
