"""What retrain.json states of a training as it was found."""

from __future__ import annotations

from cimrobust.records import Count, Measured, Record, Rows


class PacedRate(Record):
    """One learning rate that was tried; null where losses were not finite."""

    rate: float
    """Learning rate."""
    clean: Measured
    """Clean score after the first steps; null where losses were not finite."""


class Paced(Record):
    """How the learning rate was chosen.

    Clean scores on the validation split after the first steps of plain training, and that before.
    """

    rate: float
    """Learning rate chosen."""
    before: Measured
    """Clean score before training."""
    tried: Rows[PacedRate]
    """Every rate that was tried."""


class TunedTrial(Record):
    """One short training of the search.

    Its score is the attacked validation score, ties by the first percentile, far below 0 where too
    much clean accuracy was lost.
    """

    values: dict[str, float]
    """Settings that were tried."""
    epochs: Count
    """Epochs that it took."""
    pruned: bool
    """Whether it was ended early."""
    score: float
    """Attacked validation score; far below 0 where too much clean accuracy was lost."""


class Equivalent(Record):
    """Tolerance at which the old network would be as good as the new one is at the stated one.

    It is found by quick searches.
    """

    tolerance: float | None
    """Tolerance at which the old network is as good, fraction of the full conductance range;
    null: none."""
    effort: str
    """Effort of the search: quick, standard or thorough."""
    reason: str | None
    """Why it is none, or what limits it."""
