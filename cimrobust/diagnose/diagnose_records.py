"""What certificates state of diagnostics that need no further words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.records import Count, Fraction, Record, Rows, Score

if TYPE_CHECKING:
    from cimrobust.data import decision

#: Inputs that are listed as the most fragile.
MOST_FRAGILE = 20
#: What the pattern is called that was made for one of them.
OWN_CHIP = "a chip made for it"


class Attacked(Record):
    """The worst score that a short attack found, and how it was reached."""

    score: Score
    """Worst score found."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    origin: str
    """Pattern or start that led to it."""

    @classmethod
    def of(cls, found: decision.Score, origin: str) -> Attacked:
        """Return a score that was found, and how it was reached."""
        return cls(score=found.value, correct=found.count, origin=origin)


class LayerAttack(Record):
    """One layer: alone, and all others without it."""

    initializer: str
    """Name of the initializer in the graph."""
    alone: Attacked
    """Worst chip when this layer alone deviates."""
    others: Attacked | None
    """Worst chip when all but this layer deviate; null: it is the only one."""


class LayerAttacks(Record):
    """Which layer is fragile, the most fragile alone first."""

    rows: Rows[LayerAttack]
    """Layers, the most fragile alone first."""
    crafting_samples: Count
    """Samples of the attack set, on which gradients were computed."""
    passes_each: Count
    """Passes over the attack set that each attack was given."""


class ClassAttack(Record):
    """One class: its worst recall found, and the score of all samples on the same chip."""

    label: int
    """Class, as an index."""
    samples: Count
    """Decisions of the class."""
    clean: Fraction
    """Recall without deviation."""
    clean_correct: Count
    """Correct decisions without deviation."""
    recall: Fraction
    """Worst recall found."""
    correct: Count
    """Correct decisions on that chip."""
    origin: str
    """Pattern or start that led to it."""
    overall: float
    """Score of all samples on the same chip."""
    becomes: int | None
    """Class that most of them become; null: none is wrong."""


class ClassAttacks(Record):
    """The worst chip for every class alone, the worst class first."""

    rows: Rows[ClassAttack]
    """Classes, the worst first."""
    classes: Count
    """Classes there are."""
    left_out: Rows[int]
    """Classes that were not attacked, since they have no decisions or time was short."""
    passes_each: Count
    """Passes over the attack set that each attack was given."""


class TransferDirection(Record):
    """A pattern made on one half of the samples, scored on both.

    `share` is damage held out over damage searched.
    """

    searched_samples: Count
    """Samples that were attacked."""
    searched_clean: Score
    """Their score without deviation."""
    searched: Score
    """Their score on the chip found."""
    held_out_samples: Count
    """Samples that the search did not see."""
    held_out_clean: Score
    """Their score without deviation."""
    held_out: Score
    """Their score on the same chip."""
    low: Fraction | None
    """Lower end of the interval of `held_out`."""
    high: Fraction | None
    """Upper end of the interval of `held_out`."""
    method: str | None
    """How the interval is made; null for a regression."""
    share: Score | None
    """Loss of score held out over that on the attacked samples; null: too little was lost."""


class TolerancePoint(Record):
    """The worst chip found at one tolerance."""

    tolerance: float
    """Write-verify tolerance, fraction of the full conductance range."""
    score: Score
    """Worst score found."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    origin: str
    """Pattern or start that led to it."""
