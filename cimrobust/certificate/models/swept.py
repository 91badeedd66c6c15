"""A sweep over write-verify tolerances, field by field: what is in sweep.json, and the source of its published schema.

`timings` are the only values that two runs of one command may differ in.
"""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count, Fraction, Record
from cimrobust.certificate.models.item import Data, Device, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Timings


class SweptMember(Block):
    """What one member of the search found at a tolerance, on all samples."""

    name: str
    score: float
    correct: Count | None
    passes: Count


class SweptWorst(Block):
    """The worst chip found at a tolerance; `file_score` is that of its model file in plain onnxruntime."""

    score: float
    correct: Count | None
    file_score: float
    member: str
    passes: Count
    evaluations: Count
    has_twin: bool
    members: list[SweptMember]
    replay_note: str
    witness: dict[str, str]


class SweptKpp(Block):
    """K-th percentile of the chips drawn at a tolerance; each bound holds at its confidence on its own."""

    k: float
    score: float
    lower_bound: float | None
    confidence: Fraction
    needed_trials: Count


class SweptChips(Block):
    """Chips drawn at a tolerance."""

    trials: Count
    mean: float
    std: float
    min: float
    max: float
    kpp: list[SweptKpp]


class SweptProof(Block):
    """What holds for every chip of a tolerance."""

    score: float | None
    correct: Count | None
    not_tried: Count
    reason: str | None


class SweptPoint(Block):
    """One tolerance."""

    tolerance: Fraction
    worst_found: SweptWorst
    monte_carlo: SweptChips
    certified: SweptProof


class SafeTolerance(Block):
    """The largest tolerance at which a claim holds; null with a reason where it holds at none that was tried."""

    tolerance: Fraction | None
    fails_at: Fraction | None
    reason: str | None
    tried: list[float]
    statement: str


class SafeStatistical(SafeTolerance):
    """The statistical claim, tested on fresh chips."""

    k: float
    confidence: Fraction
    fresh_trials: Count
    test_confidence: Fraction | None


class SafeTolerances(Block):
    """Largest safe tolerances for a required score, in three senses."""

    required: float
    unrefuted: SafeTolerance
    statistical: SafeStatistical
    certified: SafeTolerance

    def claims(self) -> dict[str, SafeTolerance]:
        """Return the three claims by name, the weakest first."""
        return {
            "unrefuted": self.unrefuted,
            "statistical": self.statistical,
            "certified": self.certified,
        }


class CleanScores(Block):
    """Scores without deviation."""

    score: float
    quantised_score: float
    samples: Count


class SweepModel(Record):
    """A sweep."""

    NAME = "sweep"
    VERSION = "1.2"

    schema_version: Literal["1.2"]
    tool: Tool
    metric: Metric
    model: Model
    data: Data
    device: Device
    settings: list[Setting]
    effort: Literal["quick", "standard", "thorough"]
    clean: CleanScores
    points: list[SweptPoint]
    safe: SafeTolerances | None
    safe_reason: str | None
    not_covered: list[str]
    warnings: list[str]
    command: str
    timings: Timings
