"""What changes while a network is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cimrobust.training.parameters import Parameters
from cimrobust.training.tightness import BoundUse


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
    """

    parameters: Parameters
    averaged: Parameters
    best: Parameters
    optimiser: torch.optim.Optimizer
    memory: dict[str, Tensor]
    rows: list[EpochRow]
    best_epoch: int = 0
    skipped: int = 0
    weight_range: float | None = None
    bound: BoundUse = field(default_factory=BoundUse)


def columns_of(rows: Sequence[EpochRow]) -> dict[str, list[float]]:
    """Return epochs column by column."""
    return {name: [getattr(row, name) for row in rows] for name in EpochRow.__dataclass_fields__}
