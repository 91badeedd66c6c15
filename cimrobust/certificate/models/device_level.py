"""Diagnostics of single devices: stuck ones, and those worth verifying more tightly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cimrobust.certificate.models.base import Block, Count, Fraction


class StuckDevice(Block):
    """One stuck device, and what sticking changes in its weight."""

    layer: str
    group: Count
    row: Count
    column: Count
    slice_index: Count
    side: Literal["single", "positive", "negative"]
    stuck: Literal["low", "high"]
    target: float
    weight_change: float


class StuckPoint(Block):
    """At most so many stuck devices: the worst found, replayed from a model file, beside as many by magnitude and at random."""

    budget: Count
    score: float
    correct: Count | None
    file_score: float
    magnitude: float
    random_mean: float
    random_worst: float
    devices: list[StuckDevice]


class StuckCurve(Block):
    """Scores over budgets, and what all other devices do."""

    others: str
    base: float
    points: list[StuckPoint]


class StuckDevices(Block):
    """What few stuck devices can do."""

    curves: list[StuckCurve]
    kinds: list[Literal["low", "high"]]
    ranking: str
    draws: Count
    total_devices: Count
    crafting_samples: Count


class VerifyRow(Block):
    """One ranking and share of devices that are verified more tightly."""

    ranking: str
    share: Fraction
    devices: Count
    score: float
    regained: float
    extra_writes: Annotated[float, Field(ge=0)]
    regained_per_write: float
    origin: str


class WriteVerify(Block):
    """Worst score found over ranking and share, each box attacked from scratch."""

    base: float
    rows: list[VerifyRow]
    best: str
    factor: Annotated[float, Field(gt=1)]
    writes_without: Annotated[float, Field(ge=1)]
    writes_verified: Annotated[float, Field(ge=1)]
    write_sigma: Annotated[float, Field(gt=0)]
    write_model: str
    draws: Count
    crafting_samples: Count
