"""A sweep over write-verify tolerances, field by field.

What is in sweep.json, and the source of its published schema.

`timings` are the only values that two runs of one command may differ in.
"""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.item import Data, Device, Metric, Model, Setting, Tool
from cimrobust.certificate.models.judged import Timings
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.engine.machine_record import Machine
from cimrobust.records import Count, Fraction, Record
from cimrobust.tolerance_sweep.sweep_records import SweptMember


class SweptWorst(Record):
    """The worst chip found at a tolerance.

    `file_score` is that of its model file in plain onnxruntime.
    """

    score: float
    """Worst score found."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    file_score: float
    """Score of its model file in plain onnxruntime."""
    member: str
    """Member of the search ensemble that found it."""
    passes: Count
    """Forward and backward passes over the attack set."""
    evaluations: Count
    """Scorings of whole patterns in onnxruntime."""
    has_twin: bool
    """Whether the search had gradients of a torch twin of the network."""
    members: list[SweptMember]
    """All members of the ensemble."""
    replay_note: str
    """How the worst chip was scored again, in words."""
    witness: dict[str, str]
    """SHA-256 of the witness files by their path in the folder."""


class SweptKpp(Record):
    """K-th percentile of the chips drawn at a tolerance.

    Each bound holds at its confidence on its own.
    """

    k: float
    """Percentage of chips, 0 to 100."""
    score: float
    """Empirical k-th percentile."""
    lower_bound: float | None
    """Bound of the percentile; null: too few trials."""
    confidence: Fraction
    """Confidence of the bound, 0 to 1."""
    needed_trials: Count
    """Fewest trials that give a bound."""


class SweptChips(Record):
    """Chips drawn at a tolerance."""

    trials: Count
    """Chips drawn."""
    mean: float
    """Mean score."""
    std: float
    """Standard deviation."""
    min: float
    """Smallest score."""
    max: float
    """Largest score."""
    kpp: list[SweptKpp]
    """K-th percentiles with their bounds."""


class SweptProof(Record):
    """What holds for every chip of a tolerance."""

    score: float | None
    """Certified score; null: no bound."""
    correct: Count | None
    """Decisions that are certified."""
    not_tried: Count
    """Samples that were not tried, since they failed at a smaller tolerance."""
    reason: str | None
    """Why there is no bound."""


class SweptPoint(Record):
    """One tolerance."""

    tolerance: Fraction
    """Write-verify tolerance, fraction of the full conductance range."""
    worst_found: SweptWorst
    """The worst chip found."""
    monte_carlo: SweptChips
    """Chips drawn."""
    certified: SweptProof
    """What is proven."""


class SafeTolerance(Record):
    """The largest tolerance at which a claim holds.

    Null with a reason where it holds at none that was tried.
    """

    tolerance: Fraction | None
    """Largest tolerance at which the claim holds, fraction of the full conductance range;
    null: none."""
    fails_at: Fraction | None
    """Smallest tolerance at which it fails; null: none was tried."""
    reason: str | None
    """Why it holds at none."""
    tried: list[float]
    """Tolerances that were tried."""
    statement: str
    """The result as a sentence."""


class SafeStatistical(SafeTolerance):
    """The statistical claim, tested on fresh chips."""

    k: float
    """Percentage of chips that may miss the score."""
    confidence: Fraction
    """Confidence of the bound, 0 to 1."""
    fresh_trials: Count
    """Fresh chips of the test."""
    test_confidence: Fraction | None
    """Confidence of the test; null: there was none."""


class SafeTolerances(Record):
    """Largest safe tolerances for a required score, in three senses."""

    required: float
    """Required score."""
    unrefuted: SafeTolerance
    """No chip was found that misses it."""
    statistical: SafeStatistical
    """All but few drawn chips keep it, with confidence."""
    certified: SafeTolerance
    """Every chip keeps it, by proof."""

    def claims(self) -> dict[str, SafeTolerance]:
        """Return the three claims by name, the weakest first."""
        return {
            "unrefuted": self.unrefuted,
            "statistical": self.statistical,
            "certified": self.certified,
        }


class CleanScores(Record):
    """Scores without deviation."""

    score: float
    """Score of the model file."""
    quantised_score: float
    """Score with quantised weights."""
    samples: Count
    """Decisions that it counts."""


class SweepModel(ResultFile):
    """A sweep."""

    NAME = "sweep"
    VERSION = "1.3"

    schema_version: Literal["1.3"]
    """Version of this format, MAJOR.MINOR."""
    tool: Tool
    """What made the file."""
    machine: Machine | None
    """Processor and libraries that the numbers were made on."""
    machine_reason: str | None
    """Why they are not stated."""
    metric: Metric
    """What a score is."""
    model: Model
    """The network."""
    data: Data
    """The evaluation data."""
    device: Device
    """The devices at the profile's own tolerance."""
    settings: list[Setting]
    """Every setting of the run, defaults included."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search: quick, standard or thorough."""
    clean: CleanScores
    """Scores without deviation."""
    points: list[SweptPoint]
    """One entry for each tolerance, ascending."""
    safe: SafeTolerances | None
    """Largest safe tolerances; null: no score is required."""
    safe_reason: str | None
    """Why there are none."""
    not_covered: list[str]
    """What the file says nothing about."""
    warnings: list[str]
    """What a reader has to know."""
    command: str
    """Command that makes the sweep again."""
    timings: Timings
    """Where the time went; differs from run to run."""
