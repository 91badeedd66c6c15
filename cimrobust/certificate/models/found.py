"""The worst chip found."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count
from cimrobust.certificate.models.scores import NotRun


class Member(Block):
    """One member of the search ensemble; its score is a replay of its best pattern on all samples."""

    name: str
    """Name of the member."""
    score: float
    """Score of its best pattern on all samples, replayed in onnxruntime."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    seconds: float
    """Wall-clock seconds."""
    passes: Count
    """Forward and backward passes over the attack set."""
    evaluations: Count
    """Scorings of whole patterns in onnxruntime."""
    note: str
    """What it did, in words."""


class Warned(Block):
    """A named warning."""

    code: str
    """Stable name of the warning."""
    text: str
    """The warning."""


class Replay(Block):
    """The witness file, run again in plain onnxruntime."""

    engine: str
    """What scored the witness file."""
    score: float
    """Score of the witness file."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    engine_score: float
    """Score of the same weights in the engine of the run."""
    note: str
    """How both compare, in words."""


class EffortPoint(Block):
    """The search became better; the score is that on the crafting samples."""

    passes: Count
    """Passes so far."""
    seconds: float
    """Seconds so far."""
    score: float
    """Best score so far on the attack set."""


class EffortCurve(Block):
    """How fast the search became as good as it is. `near` is where it came within a factor of 1.1 of its last score."""

    points: list[EffortPoint]
    """Every improvement."""
    near: EffortPoint
    """Where the score came within a factor of 1.1 of its last."""


class WorstFound(Block):
    """The worst chip found."""

    score: float
    """Lowest score of any pattern tried (highest for errors), replayed; a fact about one chip,
    not the true worst case."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    samples: Count
    """Decisions that it counts."""
    member: str
    """Member of the search ensemble that found it."""
    members: list[Member]
    """All members of the ensemble."""
    not_run: list[NotRun]
    """Members that do not apply, and why."""
    has_twin: bool
    """Whether the search had gradients of a torch twin of the network."""
    twin_reason: str | None
    """Why there is no twin."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search: quick, standard or thorough."""
    crafting_samples: Count
    """Samples of the attack set, on which gradients were computed."""
    effort_curve: EffortCurve | None
    """Course of the search."""
    effort_curve_reason: str | None
    """Why there is none."""
    box_obeyed: bool
    """Whether every deviation lies in its interval."""
    replay: Replay
    """The witness file run again."""
    witness: dict[str, str]
    """SHA-256 of the witness files by their path in the folder."""
    warnings: list[Warned]
    """What a reader has to know."""
    confusion: list[list[Count]] | None
    """Decisions on the worst chip: row label, column decision, last column no class; null for
    a regression."""
    confusion_reason: str | None
    """Why there is none."""
