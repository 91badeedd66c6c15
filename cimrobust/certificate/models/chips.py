"""Chips drawn from the stated distribution."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.likely import MostProbable
from cimrobust.montecarlo.montecarlo_records import FirstOrderProbability
from cimrobust.records import Count, Fraction, Record


class TwoSource(Record):
    """A percentile for chips and evaluation samples both drawn."""

    bound: float
    """All but k percent of chips have at least this accuracy on the distribution of the samples."""
    observed: float
    """Accuracy of the drawn chip that the bound starts from."""
    rank: Count
    """Rank of that chip among the drawn ones, 1 is the worst."""
    samples: Count
    """Independent evaluation samples."""
    method: str
    """How the accuracy of one chip is bounded from its samples."""
    spared_fraction: Fraction
    """Part of k / 100 given to chips whose own bound may be broken (gamma)."""
    chip_error: Fraction
    """Probability given to the order statistic being above its percentile."""
    sample_error: Fraction
    """Probability given to more than `spared_fraction` of chips breaking their bound."""
    statement: str
    """The result as a sentence."""
    formula: str
    """The bound as a formula."""


class Kpp(Record):
    """K-th percentile performance, on the evaluation samples and beyond them."""

    k: float
    """Percentage of chips that may be worse, 0 to 100."""
    score: float
    """Empirical k-th percentile of the drawn chips, on the evaluation samples."""
    lower_bound: float | None
    """Bound of the percentile that holds with the confidence, whatever the distribution; an
    upper bound for errors; null: too few trials."""
    confidence: Fraction
    """Confidence of the bound, 0 to 1."""
    rank: Count
    """Rank of the trial that is the bound, 1 is the worst; 0: too few trials."""
    needed_trials: Count
    """Fewest trials that give a bound."""
    statement: str
    """The result as a sentence."""
    two_source: TwoSource | None
    """The percentile beyond these samples, chips and samples both drawn."""
    two_source_reason: str | None
    """Why there is none."""


class Requirement(Record):
    """How often a chip misses a required score."""

    threshold: float
    """Required score."""
    failures: Count
    """Drawn chips that miss it."""
    rate: Fraction
    """Share of the drawn chips that miss it."""
    upper_bound: Fraction
    """Upper confidence bound of the probability that a chip misses it."""
    confidence: Fraction
    """Confidence of the bound, 0 to 1."""
    method: str
    """How the bound is made."""


class TargetOutcome(Record):
    """What a run that may stop early says about one percentile requirement."""

    k: float
    """Percentage of chips that may miss the score, 0 to 100."""
    confidence: Fraction
    """Confidence asked for, 0 to 1."""
    threshold: float
    """Required score."""
    failures: Count
    """Drawn chips that miss it."""
    outcome: Literal["met", "refuted", "open"]
    """Whether the requirement is met, refuted or open."""


class Stopping(Record):
    """A run that may stop early: its bounds hold after every trial at once."""

    max_trials: Count
    """Chips that would have been drawn at most."""
    stopped: bool
    """Whether the run ended before that."""
    targets: list[TargetOutcome]
    """Outcome of every percentile requirement."""
    rule: str
    """The stopping rule, in words."""
    statement: str
    """The result as a sentence."""


class RareRepeat(Record):
    """One repeat of multilevel splitting.

    `nearest` is the smallest norm of its failing chips in standard normal latents.
    """

    probability: Fraction
    """Its estimate."""
    reached: bool
    """Whether the event was reached."""
    levels: Count
    """Levels that were passed."""
    evaluations: Count
    """Chips that were evaluated."""
    accepted: Fraction
    """Share of proposed moves that were accepted."""
    nearest: float | None
    """Smallest norm of its failing chips in standard normal latents; null: none failed."""


class FirstOrder(FirstOrderProbability):
    """The most probable failing chip's first-order probability beside that of splitting.

    `agrees` is null where splitting did not reach the event.
    """

    comparison: str
    """Both beside each other, as a sentence."""
    meaning: str
    """What a difference means, as a sentence."""


class RareEvent(Record):
    """How likely a chip is that misses a score, by multilevel splitting; model-based."""

    threshold: float
    """Score that failing chips miss."""
    wrong_decisions: Count | None
    """Wrong decisions that make a chip fail; null for a regression."""
    decisions: Count
    """Decisions that a score counts."""
    devices: Count
    """Devices of one chip."""
    probability: Fraction | None
    """Probability of a failing chip; null: not reached."""
    low: Fraction
    """Lower end of its interval."""
    high: Fraction
    """Upper end of its interval."""
    confidence: Fraction
    """Confidence of the bound, 0 to 1."""
    widened: float
    """Factor by which the interval was widened because repeats disagree."""
    reliability_index: float | None
    """-Phi^-1(probability); null: not reached."""
    reached: bool
    """Whether any repeat reached the event."""
    reason: str | None
    """Why it was not reached."""
    particles: Count
    """Chips of one population."""
    killed: Count
    """Chips that are replaced at every level."""
    moves: Count
    """Moves of the Markov chain between levels."""
    budget: Count
    """Chips that each repeat may evaluate."""
    seed: int
    """Seed of its random numbers."""
    repeats: list[RareRepeat]
    """Every repeat on its own."""
    first_order: FirstOrder | None
    """First-order probability beside it."""
    first_order_reason: str | None
    """Why there is none."""
    most_probable: MostProbable | None
    """The most probable failing chip found."""
    most_probable_reason: str | None
    """Why there is none."""
    statement: str
    """The result as a sentence."""
    formula: str
    """The estimate as a formula."""
    label: str
    """What kind of statement this is, and what it rests on."""


class Histogram(Record):
    """Trials by score."""

    edges: list[float]
    """Edges of the bins, ascending, one more than bins."""
    counts: list[Count]
    """Entries of every bin; the last one includes its upper edge."""


class MonteCarlo(Record):
    """Chips drawn from the stated distribution."""

    trials: Count
    """Chips drawn."""
    seed: int
    """Seed of its random numbers."""
    samples: Count
    """Decisions that each score counts."""
    mean: float
    """Mean score of the drawn chips."""
    std: float
    """Standard deviation of their scores."""
    min: float
    """Smallest score."""
    max: float
    """Largest score."""
    worst_trial: Count
    """Index of the worst trial."""
    kpp: list[Kpp]
    """K-th percentile performance with its bound, for several k."""
    requirement: Requirement | None
    """How often chips miss the required score of the policy."""
    requirement_reason: str | None
    """Why it is not stated."""
    stopping: Stopping | None
    """Of a run that could stop early."""
    stopping_reason: str | None
    """Why there is none."""
    rare: RareEvent | None
    """How likely a chip is that misses a score, down to rare events."""
    rare_reason: str | None
    """Why it was not estimated."""
    histogram: Histogram
    """Drawn chips by score."""
