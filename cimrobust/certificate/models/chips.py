"""Chips drawn from the stated distribution."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count, Fraction
from cimrobust.certificate.models.likely import MostProbable


class TwoSource(Block):
    """A percentile for chips and evaluation samples both drawn."""

    bound: float
    observed: float
    rank: Count
    samples: Count
    method: str
    spared_fraction: Fraction
    chip_error: Fraction
    sample_error: Fraction
    statement: str
    formula: str


class Kpp(Block):
    """K-th percentile performance, on the evaluation samples and beyond them."""

    k: float
    score: float
    lower_bound: float | None
    confidence: Fraction
    rank: Count
    needed_trials: Count
    statement: str
    two_source: TwoSource | None
    two_source_reason: str | None


class Requirement(Block):
    """How often a chip misses a required score."""

    threshold: float
    failures: Count
    rate: Fraction
    upper_bound: Fraction
    confidence: Fraction
    method: str


class TargetOutcome(Block):
    """What a run that may stop early says about one percentile requirement."""

    k: float
    confidence: Fraction
    threshold: float
    failures: Count
    outcome: Literal["met", "refuted", "open"]


class Stopping(Block):
    """A run that may stop early: its bounds hold after every trial at once."""

    max_trials: Count
    stopped: bool
    targets: list[TargetOutcome]
    rule: str
    statement: str


class RareRepeat(Block):
    """One repeat of multilevel splitting; `nearest` is the smallest norm of its failing chips in standard normal latents."""

    probability: Fraction
    reached: bool
    levels: Count
    evaluations: Count
    accepted: Fraction
    nearest: float | None


class FirstOrder(Block):
    """The most probable failing chip's first-order probability beside that of splitting; `agrees` is null where splitting did not reach the event."""

    reliability_index: float
    probability: Fraction
    log10_probability: float
    ratio: float | None
    agrees: bool | None
    comparison: str
    meaning: str


class RareEvent(Block):
    """How likely a chip is that misses a score, by multilevel splitting; model-based."""

    threshold: float
    wrong_decisions: Count | None
    decisions: Count
    devices: Count
    probability: Fraction | None
    low: Fraction
    high: Fraction
    confidence: Fraction
    widened: float
    reliability_index: float | None
    reached: bool
    reason: str | None
    particles: Count
    killed: Count
    moves: Count
    budget: Count
    seed: int
    repeats: list[RareRepeat]
    first_order: FirstOrder | None
    first_order_reason: str | None
    most_probable: MostProbable | None
    most_probable_reason: str | None
    statement: str
    formula: str
    label: str


class Histogram(Block):
    """Trials by score."""

    edges: list[float]
    counts: list[Count]


class MonteCarlo(Block):
    """Chips drawn from the stated distribution."""

    trials: Count
    seed: int
    samples: Count
    mean: float
    std: float
    min: float
    max: float
    worst_trial: Count
    kpp: list[Kpp]
    requirement: Requirement | None
    requirement_reason: str | None
    stopping: Stopping | None
    stopping_reason: str | None
    rare: RareEvent | None
    rare_reason: str | None
    histogram: Histogram
