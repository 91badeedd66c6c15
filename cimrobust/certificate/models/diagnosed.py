"""Diagnostics: one block for each of the catalogue, null with a reason where it did not run."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count, Fraction


class DiagnosticCost(Block):
    """What a diagnostic cost, beside the search."""

    name: str
    passes: Count
    evaluations: Count
    seconds: float


class Attacked(Block):
    """The worst score that a short attack found, and how it was reached."""

    score: float
    correct: Count | None
    origin: str


class LayerAttack(Block):
    """One layer: alone, and all others without it."""

    initializer: str
    alone: Attacked
    others: Attacked | None


class LayerAttacks(Block):
    """Which layer is fragile, the most fragile alone first."""

    rows: list[LayerAttack]
    crafting_samples: Count
    passes_each: Count


class ClassAttack(Block):
    """One class: its worst recall found, and the score of all samples on the same chip."""

    label: int
    samples: Count
    clean: Fraction
    clean_correct: Count
    recall: Fraction
    correct: Count
    origin: str
    overall: float
    becomes: int | None


class ClassAttacks(Block):
    """The worst chip for every class alone, the worst class first."""

    rows: list[ClassAttack]
    classes: Count
    left_out: list[int]
    passes_each: Count


class SafetyClass(Block):
    """The worst recall found of the safety class, with its witness."""

    label: int
    samples: Count
    clean: Fraction
    recall: Fraction
    correct: Count
    overall: float
    member: str
    effort: Literal["quick", "standard", "thorough"]
    passes: Count
    has_twin: bool
    replay_note: str
    witness: dict[str, str]


class TransferDirection(Block):
    """A pattern made on one half of the samples, scored on both; `share` is damage held out over damage searched."""

    searched_samples: Count
    searched_clean: float
    searched: float
    held_out_samples: Count
    held_out_clean: float
    held_out: float
    low: Fraction | None
    high: Fraction | None
    method: str | None
    share: float | None


class Transfer(Block):
    """Whether the worst chip is a property of the chip or of the samples."""

    directions: list[TransferDirection]
    confidence: Fraction
    property_of: Literal["chip", "samples", "both", "too little damage"]
    statement: str
    effort: Literal["quick", "standard", "thorough"]


class TolerancePoint(Block):
    """The worst chip found at one tolerance."""

    tolerance: float
    score: float
    correct: Count | None
    origin: str


class ToleranceCurve(Block):
    """Worst score found over the tolerance; `unrefuted` is no proof, `certified` is one for the first `certified_samples` samples."""

    points: list[TolerancePoint]
    tried: list[TolerancePoint]
    required: float
    required_by: str
    unrefuted: float
    refuted: float | None
    certified: float | None
    certified_samples: Count
    certified_reason: str | None
    passes_each: Count


class FragileInput(Block):
    """One input; tolerances are shares of the box times the stated tolerance."""

    sample: Count
    label: int
    margin: float | None
    breaks_at: float
    becomes: int
    pattern: str
    certified_to: float | None


class FragileInputs(Block):
    """The inputs that break first."""

    rows: list[FragileInput]
    right: Count
    broken: Count
    patterns: list[str]
    own_chips: Count
    bound_reason: str | None
