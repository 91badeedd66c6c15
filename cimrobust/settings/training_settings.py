"""How a training runs, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cimrobust.errors import UsageError
from cimrobust.option import Option
from cimrobust.run import DEVICE_TYPES
from cimrobust.settings.described_settings import check_values

Optimiser = Literal["adamw", "sgd"]
OPTIMISERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training."""

    epochs: int = 30
    """Epochs at most."""
    batch: int = 64
    """Samples of a mini-batch."""
    learning_rate: float | None = None
    """Of the first step; falls to 0 along a half cosine. Default: the largest of 2e-3, 1e-3, 5e-4,
    2.5e-4 and 1.25e-4 at which the first steps of plain training keep within `clean_loss` and one
    standard error."""
    optimiser: Annotated[Optimiser, Option(choices=OPTIMISERS)] = "adamw"
    """The optimiser; sgd has Nesterov momentum 0.9."""
    weight_decay: float = 0.0
    """Weight decay of the optimiser."""
    clean_loss: float = 0.01
    """Clean accuracy on the validation split that may be lost; of a regression, share of its error
    that may be added."""
    patience: int | None = None
    """Epochs without a better one after which training stops. Default: half of `epochs`, 10 at
    least."""
    gradient_norm: Annotated[float, Option(is_option=False)] = 1.0
    """Gradients are shortened to this norm."""
    search_passes: int = 15
    """Passes of the short search on the validation split after every epoch."""
    draws: Annotated[int, Option(least=0)] = 20
    """Chips drawn on the validation split after every epoch."""
    update_norms: bool = False
    """Train batch normalisations too; their statistics follow the data."""
    seed: Annotated[int, Option(least=0)] = 0
    """Seed of every random number."""
    device_type: Annotated[str, Option(choices=DEVICE_TYPES)] = "cpu"
    """Where to train."""

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
        for name, value in (
            ("learning rate", self.learning_rate),
            ("gradient norm", self.gradient_norm),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be positive, got {value}; give a positive number")
        for name, value in (("weight decay", self.weight_decay), ("clean loss", self.clean_loss)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} must be 0 or more, got {value}; give another number")
        check_values(self)
