"""The tables of a policy file."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from cimrobust.counts import MAX_TRIALS

EFFORTS = ("quick", "standard", "thorough")
#: Name of the row that a condition gets in a verdict, in front of its key.
CONDITION = "condition: "

Effort = Literal["quick", "standard", "thorough"]
Samples = Literal["these", "beyond"]

_DIGEST = re.compile(r"(sha256:)?[0-9a-fA-F]{64}")
_MAX_TEXT = 10_000


def _printable(text: str) -> str:
    if not text.strip() or not all(char.isprintable() or char in "\n\t" for char in text):
        raise ValueError("must be text of printable characters")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text or text != text.strip():
        raise ValueError("must be one line without spaces around it")
    return _printable(text)


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("must be a SHA-256 digest, 64 hexadecimal digits")
    return text.removeprefix("sha256:").lower()


def _one_or_many(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


Threshold = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(max_length=_MAX_TEXT), AfterValidator(_printable)]
Texts = Annotated[list[Text], BeforeValidator(_one_or_many)]
Digests = Annotated[
    list[Annotated[str, AfterValidator(_digest)]],
    BeforeValidator(_one_or_many),
    Field(min_length=1),
]


class Table(BaseModel):
    """A table without unknown keys, infinities or NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ItemTable(Table):
    """What the network is part of: free text, which the certificate repeats."""

    name: Text | None = None
    """Name of the item."""
    version: Text | None = None
    """Its version."""
    intended_use: Texts = []
    """What it is used for: one text or a list."""
    operational_domain: Texts = []
    """Where and when it is used: one text or a list."""
    hazards: Texts = []
    """Hazards that it may cause: one text or a list."""
    safety_goals: Texts = []
    """Safety goals, with their ids: one text or a list."""
    owner: Texts = []
    """Who is responsible: one text or a list."""


class Conditions(Table):
    """Under which conditions evidence counts."""

    metric: Literal["accuracy", "rmse", "mae", "mse", "max_error"] | None = None
    """Metric that thresholds are of. Needed for errors: each accuracy is the largest allowed."""
    device: Text | None = None
    """Name of a shipped profile, or `sha256:` and the digest of the profile."""
    least_tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least write-verify tolerance of every stored layer, fraction of the conductance range."""
    least_samples: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    """Fewest evaluation samples."""
    data_sha256: Digests | None = None
    """Digest of the data, or a list of them: all files must be among them."""
    model_sha256: Digests | None = None
    """Digest of the network, or a list of them: all files must be among them."""
    effort: Effort | None = None
    """Least effort of the search."""
    least_trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    """Fewest drawn chips."""
    tool: Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,6}){0,3}$")] | None = None
    """Least version of cimrobust."""
    newest_days: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Most days since the certificate was issued (`analyze --issued`)."""

    @field_validator("device")
    @classmethod
    def _name_or_digest(cls, value: str | None) -> str | None:
        return (
            f"sha256:{_digest(value)}"
            if value is not None and value.startswith("sha256:")
            else value
        )

    @model_validator(mode="after")
    def _not_empty(self) -> Conditions:
        if not self.model_fields_set:
            raise ValueError("[conditions] must name at least one condition")
        return self


class KppRequirement(Table):
    """All but the worst k percent of chips reach `accuracy`, with this confidence."""

    k: Annotated[float, Field(gt=0, lt=100)]
    """Percent of chips that may be worse."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence that the bound has to hold with."""
    accuracy: Threshold
    """Least score of the others; of an error metric the largest."""

    @model_validator(mode="after")
    def _decidable(self) -> KppRequirement:
        # The fewest trials n for a bound: 1 - (1 - k/100)^n >= confidence (Wilks 1941).
        decay = -math.log1p(-self.k / 100)
        needed = -math.log1p(-self.confidence) / decay if decay > 0 else math.inf
        if not needed <= MAX_TRIALS:
            raise ValueError(
                f"no run can decide k = {self.k:g} % at confidence {self.confidence:g}: it needs"
                f" {needed:.3g} trials or more, and a run has at most {MAX_TRIALS}"
            )
        return self


class SafetyRequirement(Table):
    """No chip lowers the recall of class `label` below `recall`."""

    label: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Class, by its index among the scores, from 0."""
    recall: Annotated[float, Field(ge=0, le=1)]
    """Least share of the samples of this class that every chip finds."""


class RequireRow(Table):
    """One requirement.

    For error metrics, where lower is better, every accuracy is the largest error allowed; such a
    policy names the metric in [conditions].
    """

    id: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
    """The project's own id of the requirement, one line."""
    text: Text | None = None
    """The requirement in the project's words."""
    clean_accuracy: Threshold | None = None
    """Least score of the programmed network without deviation."""
    worst_found_accuracy: Threshold | None = None
    """Least score of the worst chip found. It can fail a network, never pass one alone."""
    certified_accuracy: Threshold | None = None
    """Least score that is proven for every chip of the tolerance box."""
    kpp: KppRequirement | None = None
    """Percentile performance of drawn chips."""
    safety_class: SafetyRequirement | None = None
    """Recall of one class, which gets a search of its own."""
    cost: Threshold | None = None
    """Largest mean cost of a decision on the worst chip found, by [cost]."""
    no_worse_than_baseline: Threshold | None = None
    """Score that may be lost against the certificate of `gate --baseline`."""
    samples: Samples = "these"
    """Whether the requirement is about these samples, or about inputs beyond them too."""

    @model_validator(mode="after")
    def _one_kind(self) -> RequireRow:
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"a requirement must ask exactly one of {', '.join(KINDS)}, got"
                f" {', '.join(kinds) or 'none'}"
            )
        if self.id == "verdict" or self.id.startswith(CONDITION.strip()):
            raise ValueError(
                f"id must not be 'verdict' nor begin with '{CONDITION.strip()}', which rows of the"
                " gate's own have"
            )
        return self

    @property
    def kind(self) -> str:
        """What it asks, one of `KINDS`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def threshold(self) -> float:
        """The number that it asks for."""
        asked = getattr(self, self.kind)
        if isinstance(asked, KppRequirement):
            return asked.accuracy
        return asked.recall if isinstance(asked, SafetyRequirement) else float(asked)


#: What a requirement can ask.
KINDS = tuple(name for name in RequireRow.model_fields if name not in ("id", "text", "samples"))


class RequireTable(Table):
    """The older form: one table of requirements, whose ids are their keys."""

    clean_accuracy: Threshold | None = None
    """Least score of the programmed network without deviation."""
    worst_found_accuracy: Threshold | None = None
    """Least score of the worst chip found. It can fail a network, never pass one alone."""
    certified_accuracy: Threshold | None = None
    """Least score that is proven for every chip of the tolerance box."""
    kpp: Annotated[list[KppRequirement], BeforeValidator(_one_or_many)] = []
    """Percentile performance of drawn chips: one table, or a list of them."""
    safety_class: SafetyRequirement | None = None
    """Recall of one class, which gets a search of its own."""
    effort: Effort | None = None
    """Least effort of the run. A certificate made with less fails."""

    @model_validator(mode="after")
    def _not_empty(self) -> RequireTable:
        if not self.model_fields_set:
            raise ValueError("[require] must name at least one requirement")
        return self

    def rows(self) -> list[RequireRow]:
        """Return the requirements on scores as rows of today's form."""
        rows = [
            RequireRow.model_validate({"id": kind, kind: asked})
            for kind in ("clean_accuracy", "worst_found_accuracy", "certified_accuracy")
            if (asked := getattr(self, kind)) is not None
        ]
        rows += [
            RequireRow(id=name, kpp=asked)
            for name, asked in zip(_kpp_ids(self.kpp), self.kpp, strict=True)
        ]
        return (
            rows
            if self.safety_class is None
            else [*rows, RequireRow(id="safety_class", safety_class=self.safety_class)]
        )


def _kpp_ids(asked: list[KppRequirement]) -> list[str]:
    """Return one name for each: by k, where needed by confidence too, then by number."""
    short = [f"kpp_{kpp.k:g}" for kpp in asked]
    longer = [
        name if short.count(name) == 1 else f"{name}@{kpp.confidence:.15g}"
        for name, kpp in zip(short, asked, strict=True)
    ]
    return [
        name if longer.count(name) == 1 else f"{name}#{longer[: index + 1].count(name)}"
        for index, name in enumerate(longer)
    ]


ClassName = Annotated[int, Field(ge=0, le=2**31 - 1)] | Annotated[str, Field(max_length=_MAX_TEXT)]


class CostPair(Table):
    """What one wrong decision costs."""

    label: ClassName
    """Class of the label, by index or name."""
    decision: ClassName
    """Class that is decided for, by index or name."""
    cost: Threshold
    """What that costs."""


class CostTable(Table):
    """Cost of deciding for a column where the label is the row."""

    matrix: Annotated[list[list[Threshold]], Field(min_length=2)] | None = None
    """Costs, row the label, column the decision."""
    pair: list[CostPair] = []
    """Costs of single wrong decisions; others cost 1, right ones 0."""

    @model_validator(mode="after")
    def _one_form(self) -> CostTable:
        if (self.matrix is None) == (not self.pair):
            raise ValueError("[cost] must have a matrix, or [[cost.pair]] tables, and not both")
        if self.matrix is not None and any(len(row) != len(self.matrix) for row in self.matrix):
            raise ValueError(
                "matrix must have as many columns as rows: one of each for every class"
            )
        return self

    @property
    def largest(self) -> float:
        """The largest cost of a decision; 1 for wrong decisions that are not listed."""
        return (
            max((*(pair.cost for pair in self.pair), 1.0))
            if self.matrix is None
            else max(map(max, self.matrix))
        )
