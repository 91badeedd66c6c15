"""The worst chip found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cimrobust.certificate.models.scores import NotRun
from cimrobust.records import Count, Record, Rows
from cimrobust.search.search_records import EffortCurve, Warned

#: Most classes of a table of decisions.
MOST_CONFUSION = 20


class Member(Record):
    """One member of the search ensemble.

    Its score is a replay of its best pattern on all samples.
    """

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


class Replay(Record):
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


class FlippedInput(Record):
    """One input that is decided right without deviation and wrong on the worst chip found.

    The network's own input, after preprocessing.
    """

    sample: Count
    """Index of the sample."""
    label: int
    """Its label, which is also the decision without deviation."""
    becomes: int
    """Decision on the worst chip found; -1: none."""
    margin: float | None
    """Margin without deviation; null: the output is a decision, or infinite."""
    worst_margin: float | None
    """The same on the worst chip found."""
    picture: Annotated[str, Field(pattern="^[A-Za-z0-9+/=]+$", max_length=4096)] | None
    """PNG of the input, base64, from least (black) to largest (white); null: it is no image."""
    values: list[float] | None
    """Its values, four significant digits; null: it is an image."""


class Flipped(Record):
    """Inputs that the worst chip found decides wrong, a few of them shown."""

    count: Count
    """Decisions that are right without deviation and wrong on the worst chip found."""
    form: Literal["image", "signal", "table"]
    """How an input is shown: by its shape."""
    input: str
    """Graph input that is shown."""
    shape: list[int]
    """Shape of one input as the network takes it."""
    shown_shape: list[int]
    """Shape of what is shown: pictures are made smaller, tables are cut."""
    choice: str
    """Which of them are shown."""
    rows: list[FlippedInput]
    """Those that are shown."""


class WorstLikelihood(Record):
    """How far the worst chip found lies from the chips that the profile draws, at first order.

    It believes the profile.

    With w the deviation of a weight and s its standard deviation by the profile, the chip reaches T
    = sum of w^2/s^2 in its own direction. Deviations are independent and, centred and truncated
    Gaussian, no heavier than Gaussian ones of that sigma, so by Chernoff a drawn chip reaches T
    with probability at most exp(-T/2).
    """

    distance: float
    """Root of T: standard deviations from the chip without deviation to the worst chip found."""
    drawn_distance: float
    """The same of a drawn chip, about: root of the number of weights that deviate."""
    log10_probability: float
    """log10 of exp(-T/2), which bounds the share of chips that reach as far this way."""
    statement: str
    """The result as a sentence."""
    meaning: str
    """What it does not say."""


class WorstFound(Record):
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
    warnings: Rows[Warned]
    """What a reader has to know."""
    confusion: list[list[Count]] | None
    """Decisions on the worst chip: row label, column decision, last column no class; null for
    a regression."""
    confusion_reason: str | None
    """Why there is none."""
    flipped: Flipped | None
    """Inputs that the worst chip found decides wrong."""
    flipped_reason: str | None
    """Why none are shown."""
    likelihood: WorstLikelihood | None
    """How far the worst chip found lies from drawn chips, at first order."""
    likelihood_reason: str | None
    """Why it is not stated."""
