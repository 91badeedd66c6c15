"""The certified bound."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count


class CertifiedPoint(Block):
    """What is proven of a box whose intervals are `box_size` times those of the tolerance box."""

    box_size: float
    tolerance_fraction: float
    score: float
    correct: Count | None


class Certified(Block):
    """Sound bound for every chip of the box: the least accuracy, or the largest error; the curve is over the first `curve_samples` samples."""

    score: float | None
    reason: str | None
    correct: Count | None
    samples: Count
    method: str | None
    operators: dict[str, Count]
    curve: list[CertifiedPoint]
    curve_samples: Count
