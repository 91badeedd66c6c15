"""What certificates state of single devices: stuck ones, and those worth verifying more tightly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cimrobust.records import Count, Fraction, Record, Rows, Score


class StuckDevice(Record):
    """One stuck device, and what sticking changes in its weight."""

    layer: str
    """Initializer that the device belongs to."""
    group: Count
    """Matrix of the layer, for grouped convolutions."""
    row: Count
    """Word line."""
    column: Count
    """Bit line."""
    slice_index: Count
    """Bit slice, 0 is the least significant."""
    side: Literal["single", "positive", "negative"]
    """Side of a differential pair, or single."""
    stuck: Literal["low", "high"]
    """Where it is stuck: at the low or high end of its range."""
    target: float
    """Level that it should have."""
    weight_change: float
    """Change of its weight, in units of the weight."""


class StuckPoint(Record):
    """At most so many stuck devices.

    The worst found, replayed from a model file, beside as many by magnitude and at random.
    """

    budget: Count
    """Most stuck devices."""
    score: Score
    """Worst score found."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    file_score: Score
    """Score of its model file in plain onnxruntime."""
    magnitude: Score
    """Score with as many devices stuck by magnitude of their effect."""
    random_mean: Score
    """Mean score with as many stuck at random."""
    random_worst: Score
    """Worst of those draws."""
    devices: Rows[StuckDevice]
    """The stuck devices."""


class StuckCurve(Record):
    """Scores over budgets, and what all other devices do."""

    others: str
    """What all other devices do."""
    base: Score
    """Score without stuck devices."""
    points: Rows[StuckPoint]
    """Worst score by budget, ascending."""


class StuckDevices(Record):
    """What few stuck devices can do."""

    curves: Rows[StuckCurve]
    """One curve for each state of the other devices."""
    kinds: Rows[Literal["low", "high"]]
    """Ends at which devices may be stuck."""
    ranking: str
    """How candidates were ranked."""
    draws: Count
    """Random draws of the control."""
    total_devices: Count
    """Devices of the network."""
    crafting_samples: Count
    """Samples of the attack set, on which gradients were computed."""


class VerifyRow(Record):
    """One ranking and share of devices that are verified more tightly."""

    ranking: str
    """How devices were ranked."""
    share: Fraction
    """Share of all devices that are verified more tightly."""
    devices: Count
    """Their number."""
    score: Score
    """Worst score found on the box that is left."""
    regained: Score
    """Score regained against no tighter verify."""
    extra_writes: Annotated[float, Field(ge=0)]
    """Extra write pulses on average for each device of the network."""
    regained_per_write: float
    """Score regained per extra write pulse."""
    origin: str
    """Pattern or start that led to it."""
