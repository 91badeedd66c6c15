"""What changes while a network is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.training.network_teacher import Teacher
from cimrobust.training.parameters import Parameters
from cimrobust.training.tightness import BoundUse

#: Width of the interval of scales below which one copy goes on, in units of max|W|.
NARROW = 1e-4


@dataclass(frozen=True)
class EpochRow:
    """One epoch.

    Attributes:
        epoch: From 1; 0: before training.
        loss: Mean training loss.
        clean: Clean score on the validation split.
        attacked: Worst-found score there by the short search.
        kpp: First percentile of drawn chips there.
        mean: Their mean.
        proved: Share of decisions there that the interval bound proves, NaN where the method does
            not ask.
        learning_rate: Of the last step.
        skipped: Steps left out so far since loss or gradient were not finite.
        eligible: The clean score is within the loss allowed.
        seconds: Wall-clock time, validation included.
        training_seconds: The same without validation.
    """

    epoch: int
    loss: float
    clean: float
    attacked: float
    kpp: float
    mean: float
    proved: float
    learning_rate: float
    skipped: int
    eligible: bool
    seconds: float
    training_seconds: float


@dataclass
class State:
    """Everything that changes, and all that a checkpoint holds.

    Attributes:
        parameters: Values being trained.
        averaged: Running mean of them; the same object where nothing is averaged.
        best: Values of the best epoch.
        optimiser: The optimiser.
        memory: What the method keeps.
        rows: Epochs so far.
        best_epoch: The best of them.
        skipped: Steps left out so far.
        weight_range: Largest weight of a tensor in its standard deviations; None: not limited.
            Follows from the start, so it is no part of a checkpoint.
        bound: What part the interval bound has; follows from the start, too.
        teacher: The network before training, of methods that learn from it; follows from the start,
            too.
        mean: What is added to every stored weight when the network is scored or written, in units
            of max|W|.
        copies: Copies that a search for the scale of the noise trains; None: no search.
        best_sigma: Scale of the noise of the best epoch that the search chose; None: no search.
    """

    parameters: Parameters
    averaged: Parameters
    best: Parameters
    optimiser: torch.optim.Optimizer
    memory: dict[str, Float[Tensor, "..."]]
    rows: list[EpochRow]
    best_epoch: int = 0
    skipped: int = 0
    weight_range: float | None = None
    bound: BoundUse = field(default_factory=BoundUse)
    teacher: Teacher | None = None
    mean: float = 0.0
    copies: Copies | None = None
    best_sigma: float | None = None


@dataclass
class Copies:
    """Copies of the network in a search for the scale of the noise, and the interval left.

    Attributes:
        low: Smallest scale left, in units of max|W|.
        high: Largest.
        sigma: Scale of the copy that was best last.
        states: What changes of every copy; the first has the parameters of the training itself.
    """

    low: float
    high: float
    sigma: float
    states: list[State]

    @property
    def is_narrow(self) -> bool:
        """Whether one copy goes on alone."""
        return self.high - self.low < NARROW

    def scales(self) -> list[float]:
        """Return the scale of every copy that is trained in the next epoch."""
        middle, quarter = 0.5 * (self.low + self.high), 0.25 * (self.high - self.low)
        return [middle] if self.is_narrow else [middle - quarter, middle, middle + quarter]

    def narrow(self, best: int) -> None:
        """Keep the half of the interval around one of three scales."""
        quarter = 0.25 * (self.high - self.low)
        self.low, self.high = self.low + best * quarter, self.high - (2 - best) * quarter
