"""The most probable failing chip."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count, Fraction


class NormShare(Block):
    """Where the chip deviates: share of the squared norm that lies in one layer, and its devices whose latents exceed 1, 2 and 3 in magnitude."""

    initializer: str
    share: Fraction
    devices: Count
    beyond_1: Count
    beyond_2: Count
    beyond_3: Count


class ProbableStart(Block):
    """One start of the search; `agreement` is the cosine of the angle between the chip that it led to and the chip reported."""

    name: str
    norm: float | None
    agreement: float | None
    passes: Count
    evaluations: Count


class StoredChip(Block):
    """The file that holds the chip."""

    file: str
    sha256: str


class MostProbable(Block):
    """The failing chip of smallest norm found, in standard normal latents: the reliability index is at most this norm."""

    reliability_index: float
    score: float
    correct: Count | None
    file_score: float | None
    file_score_reason: str | None
    method: Literal["gradient", "rays"]
    method_reason: str | None
    start: str
    devices: Count
    beyond_1: Count
    beyond_2: Count
    beyond_3: Count
    drawn_norm: float
    layers: list[NormShare]
    starts: list[ProbableStart]
    effort: Literal["quick", "standard", "thorough"]
    seed: int
    crafting_samples: Count
    passes: Count
    forwards: Count
    evaluations: Count
    stored: StoredChip | None
    stored_reason: str | None
    statement: str
    label: str
