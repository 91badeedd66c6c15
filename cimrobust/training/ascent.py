"""Attacks on a mini-batch.

Sign steps inside the tolerance box, the step of every weight measured in half-widths of its own
interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.training.training_protocol import Deviation, Step

#: A point of the box stretched to [-1, 1], by initializer.
Unit = dict[str, Float[Tensor, "..."]]
#: Loss of logits, to be maximised.
LogitsLoss = Callable[
    [Float[Tensor, "decisions classes"], Shaped[Tensor, "samples ..."]], Float[Tensor, ""]
]


def gradients(
    step: Step, deviation: Deviation, loss: LogitsLoss | None = None
) -> dict[str, Float[Tensor, "..."]]:
    """Return the gradient of the loss of a mini-batch with respect to the weights of a chip.

    Args:
        step: The mini-batch, from `Step.fixed`.
        deviation: The chip.
        loss: What to maximise, of logits and targets; None: the loss of the task.
    """
    leaves = {
        name: (chip.nominal + deviation[name]).detach().requires_grad_()
        for name, chip in step.chips.items()
    }
    with torch.enable_grad():
        logits = step.network.logits({**step.digital, **leaves}, step.samples)
        value = (loss or step.objective.loss)(logits, step.samples.targets)
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return {
        name: (
            torch.zeros_like(leaf)
            if gradient is None
            else gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        )
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def deviation_of(
    step: Step, unit: Mapping[str, Float[Tensor, "..."]], size: float = 1.0
) -> dict[str, Float[Tensor, "..."]]:
    """Return the deviation of a point of the box, all of it made smaller by a factor."""
    return {name: chip.deviation(unit[name], size) for name, chip in step.chips.items()}


def ascend(
    step: Step,
    start: Unit,
    *,
    passes: int,
    length: float,
    size: float = 1.0,
    loss: LogitsLoss | None = None,
) -> Unit:
    """Return the point that sign steps lead to.

    Args:
        step: The mini-batch, from `Step.fixed`.
        start: Where to begin.
        passes: Steps; each is one forward and backward run.
        length: Length of a step in half-widths.
        size: Size of the box as a share of the whole.
        loss: As for `gradients`.
    """
    unit = start
    for _ in range(passes):
        found = gradients(step, deviation_of(step, unit, size), loss)
        unit = {
            name: torch.add(unit[name], found[name].sign(), alpha=length).clamp_(-1.0, 1.0)
            for name in unit
        }
    return unit


def random_unit(step: Step) -> Unit:
    """Return a point drawn uniformly from the box."""
    return {name: 2.0 * step.uniform(chip.nominal) - 1.0 for name, chip in step.chips.items()}


def zero_unit(step: Step) -> Unit:
    """Return the middle of the box."""
    return {name: torch.zeros_like(chip.nominal) for name, chip in step.chips.items()}
