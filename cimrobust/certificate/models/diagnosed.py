"""Diagnostics: one block for each of the catalogue, null with a reason where it did not run."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count


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
