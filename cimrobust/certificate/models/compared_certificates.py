"""Two certificates side by side, field by field.

What `cimrobust compare --json` prints, and the source of its published schema.
"""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.item import Metric, Tool
from cimrobust.certificate.models.result_file import ResultFile, Status, Word
from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.input_file import printable
from cimrobust.records import Count, Fraction, Record, Score


class ComparedCertificate(Record):
    """One of the two certificates."""

    model: str
    """File name of the network."""
    sha256: str
    """SHA-256 of certificate.json, hexadecimal."""
    schema_version: str
    """Version of the format that it states."""
    tool: str
    """Version of the tool that made it."""
    issued: str | None
    """Day of issue; null: not stated."""
    verdict: Word
    """Its verdict word."""


class Sameness(Record):
    """One thing that may be the same for both, in words; what is not stated reads 'not stated'."""

    name: str
    """What is compared."""
    equal: bool
    """Whether both state the same."""
    a: str
    """What A states."""
    b: str
    """What B states."""


class BoundedScore(Record):
    """One score with what is known around it."""

    score: float
    """The score."""
    low: Score | None
    """Lower end of its interval; null: none is stated."""
    high: Score | None
    """Upper end of its interval; null: none is stated."""


class ComparedScore(Record):
    """One number of both certificates.

    `beyond_chance` says whether chance, that is the choice of samples or of chips, cannot explain
    the difference; it is null where nothing sound can be said.
    """

    name: str
    """clean, mean, kpp, worst_found or certified, with k where there are several."""
    title: str
    """The number in words."""
    about: Literal["samples", "chips"]
    """Whether the interval is about other samples, or about other chips on these samples."""
    a: BoundedScore | None
    """The number of A; null: it has none."""
    b: BoundedScore | None
    """The number of B; null: it has none."""
    difference: float | None
    """B minus A; null: one of them has none, or their scores measure different things."""
    better: Literal["a", "b"] | None
    """Which of them is better; null: neither."""
    beyond_chance: bool | None
    """Whether chance cannot explain the difference; null: nothing sound can be said."""
    statement: str
    """What follows, as a sentence."""


class ChangedRequirement(Record):
    """One requirement whose state or wording is not the same."""

    id: str
    """Name of the requirement."""
    a: Status | None
    """State in A; null: A does not ask it."""
    b: Status | None
    """State in B; null: B does not ask it."""
    text_a: str | None
    """What A requires, in words."""
    text_b: str | None
    """What B requires, in words."""


class ChangedLayer(Record):
    """One layer that is not stored in the same way."""

    initializer: str
    """Name of the initializer in the graph."""
    in_a: bool
    """Whether A stores it in devices."""
    in_b: bool
    """Whether B stores it in devices."""
    fields: list[str]
    """Fields of `mapping.layers` that differ where both store it."""


class Comparison(ResultFile):
    """Two certificates side by side.

    Nothing of their evidence is checked, which `cimrobust replay` does.
    """

    NAME = "comparison"
    VERSION = "1.0"

    schema_version: Literal["1.0"]
    """Version of this format, MAJOR.MINOR."""
    tool: Tool
    """What made the comparison."""
    a: ComparedCertificate
    """The first certificate."""
    b: ComparedCertificate
    """The second certificate."""
    metric: Metric
    """What a score of A is."""
    same_samples: bool
    """Whether both were judged on the same samples, so that the difference on these is a fact."""
    joint_confidence: Fraction
    """Confidence at which both intervals of a number hold at once."""
    sameness: list[Sameness]
    """What may be the same for both."""
    scores: list[ComparedScore]
    """Numbers side by side."""
    requirements: list[ChangedRequirement]
    """Requirements that changed."""
    requirements_same: Count
    """Requirements that did not."""
    layers: list[ChangedLayer]
    """Layers that are not stored in the same way."""
    layers_same: Count
    """Layers that are."""
    notes: list[str]
    """What a reader has to know."""

    def __repr__(self) -> str:
        """Say what was compared, in one line."""
        a, b = (f"{printable(side.model)} ({side.verdict})" for side in (self.a, self.b))
        return f"<Comparison of {a} and {b}>"

    def _repr_html_(self) -> str:
        """Show both columns of numbers in a notebook."""
        return notebook_view(
            f"A: {self.a.model}, {self.a.verdict}; B: {self.b.model}, {self.b.verdict}",
            [
                (
                    row.title,
                    *(score_text(None if side is None else side.score) for side in (row.a, row.b)),
                    row.statement,
                )
                for row in self.scores
            ],
            columns=(self.metric.name, "A", "B", "difference"),
        )
