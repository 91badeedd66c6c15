"""The worst chip found."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count
from cimrobust.certificate.models.scores import NotRun


class Member(Block):
    """One member of the search ensemble; its score is a replay of its best pattern on all samples."""

    name: str
    score: float
    correct: Count | None
    seconds: float
    passes: Count
    evaluations: Count
    note: str


class Warned(Block):
    """A named warning."""

    code: str
    text: str


class Replay(Block):
    """The witness file, run again in plain onnxruntime."""

    engine: str
    score: float
    correct: Count | None
    engine_score: float
    note: str


class EffortPoint(Block):
    """The search became better; the score is that on the crafting samples."""

    passes: Count
    seconds: float
    score: float


class EffortCurve(Block):
    """How fast the search became as good as it is. `near` is where it came within a factor of 1.1 of its last score."""

    points: list[EffortPoint]
    near: EffortPoint


class WorstFound(Block):
    """The worst chip found."""

    score: float
    correct: Count | None
    samples: Count
    member: str
    members: list[Member]
    not_run: list[NotRun]
    has_twin: bool
    twin_reason: str | None
    effort: Literal["quick", "standard", "thorough"]
    crafting_samples: Count
    effort_curve: EffortCurve | None
    effort_curve_reason: str | None
    box_obeyed: bool
    replay: Replay
    witness: dict[str, str]
    warnings: list[Warned]
    confusion: list[list[Count]] | None
    confusion_reason: str | None
