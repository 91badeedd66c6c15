"""Diagnostics: one block for each of the catalogue, null with a reason where it did not run."""

from __future__ import annotations

from typing import Literal

from cimrobust.diagnose.diagnose_records import TolerancePoint
from cimrobust.records import Count, Fraction, Record, Rows


class DiagnosticCost(Record):
    """What a diagnostic cost, beside the search."""

    name: str
    """Name of the diagnostic."""
    passes: Count
    """Forward and backward passes over the attack set."""
    evaluations: Count
    """Scorings of whole patterns in onnxruntime."""
    seconds: float
    """Wall-clock seconds."""


class SafetyClass(Record):
    """The worst recall found of the safety class, with its witness."""

    label: int
    """Class, as an index."""
    samples: Count
    """Decisions of the class."""
    clean: Fraction
    """Recall without deviation."""
    recall: Fraction
    """Worst recall found."""
    correct: Count
    """Correct decisions on that chip."""
    overall: float
    """Score of all samples on the same chip."""
    member: str
    """Member of the search ensemble that found it."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search: quick, standard or thorough."""
    passes: Count
    """Forward and backward passes over the attack set."""
    has_twin: bool
    """Whether the search had gradients of a torch twin of the network."""
    replay_note: str
    """How the worst chip was scored again, in words."""
    witness: dict[str, str]
    """SHA-256 of the witness files by their path in the folder."""


class ToleranceCurve(Record):
    """Worst score found over the tolerance.

    `unrefuted` is no proof, `certified` is one for the first `certified_samples` samples.
    """

    points: Rows[TolerancePoint]
    """Worst score by tolerance of a grid."""
    tried: Rows[TolerancePoint]
    """Worst score at the tolerances that the bisection tried."""
    required: float
    """Score that the bisection asks for."""
    required_by: str
    """Who asks for it."""
    unrefuted: float
    """Largest tolerance tried at which no chip was found that misses it; no proof."""
    refuted: float | None
    """Smallest tolerance at which one was found; null: none was."""
    certified: float | None
    """Largest tolerance at which the first `certified_samples` samples are proven to keep it;
    null: none."""
    certified_samples: Count
    """Samples of that proof."""
    certified_reason: str | None
    """Why there is none."""
    passes_each: Count
    """Passes over the attack set that each attack was given."""
