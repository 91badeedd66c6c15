"""How a training runs, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cimrobust.counts import check_count
from cimrobust.errors import UsageError

Optimiser = Literal["adamw", "sgd"]
OPTIMISERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Attributes:
        epochs: Epochs at most.
        batch: Samples of a mini-batch.
        learning_rate: Of the first step; falls to 0 along a half cosine. None: chosen before
            training, see `cimrobust.training.pace`.
        optimiser: ``adamw`` or ``sgd`` (Nesterov momentum 0.9).
        weight_decay: As in the optimiser.
        clean_loss: Clean accuracy on the validation split that may be lost; of a regression the
            share by which the error may grow.
        patience: Epochs without a better one after which training stops; None: half of the epochs,
            10 at least.
        gradient_norm: Gradients are shortened to this norm.
        search_passes: Passes of the short search on the validation split after every epoch.
        draws: Chips drawn on the validation split after every epoch.
        update_norms: Train normalisations and let their statistics follow the data.
        seed: Seed of every random number.
        device_type: ``cpu`` or ``cuda``.
    """

    epochs: int = 30
    batch: int = 64
    learning_rate: float | None = None
    optimiser: Optimiser = "adamw"
    weight_decay: float = 0.0
    clean_loss: float = 0.01
    patience: int | None = None
    gradient_norm: float = 1.0
    search_passes: int = 15
    draws: int = 20
    update_norms: bool = False
    seed: int = 0
    device_type: str = "cpu"

    @property
    def first_rate(self) -> float:
        """Learning rate of the first step; ValueError before it is chosen."""
        if self.learning_rate is None:
            raise ValueError(
                "learning rate must be chosen before training starts, got None; see"
                " cimrobust.training.pace"
            )
        return self.learning_rate

    @property
    def longest_wait(self) -> int:
        """Epochs without a better one after which training stops."""
        return max(self.epochs // 2, 10) if self.patience is None else self.patience

    def check(self) -> None:
        """Raise UsageError for settings that cannot be."""
        counts = {
            "epochs": self.epochs,
            "batch": self.batch,
            "search-passes": self.search_passes,
            "patience": self.patience,
        }
        for name, count in counts.items():
            check_count(name, count)
        for name, count in (("draws", self.draws), ("seed", self.seed)):
            check_count(name, count, least=0)
        for name, value in (
            ("learning rate", self.learning_rate),
            ("gradient norm", self.gradient_norm),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be positive, got {value}; give a positive number")
        for name, value in (("weight decay", self.weight_decay), ("clean loss", self.clean_loss)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} must be 0 or more, got {value}; give another number")
        if self.optimiser not in OPTIMISERS:
            raise UsageError(
                f"optimiser must be one of {', '.join(OPTIMISERS)}, got '{self.optimiser}'"
                " (--optimiser); choose one of them"
            )
