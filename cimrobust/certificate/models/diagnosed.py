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
