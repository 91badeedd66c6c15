"""The loss of decisions that a teacher has a say in.

A label says which class is right, a teacher's scores say how near the others are (distillation:
Hinton, Vinyals, Dean, arXiv 1503.02531). Where it is wrong it teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from cimrobust.training.training_loss import Objective


@dataclass(frozen=True)
class Taught:
    """What a teacher says of a mini-batch.

    Attributes:
        logits: Its scores of the decisions that are counted.
        share: Share of the loss that follows it where it is right.
        temperature: What scores are divided by.
    """

    logits: Float[Tensor, "decisions classes"]
    share: float
    temperature: float


def taught_loss(
    objective: Objective,
    logits: Float[Tensor, "decisions classes"],
    targets: Shaped[Tensor, "samples ..."],
    taught: Taught,
) -> Float[Tensor, ""]:
    """Return the mean loss of decisions, part of it by the labels, part of it by a teacher.

    The teacher's part is the Kullback-Leibler divergence of the choice among scores over the
    temperature, times the temperature's square, so that the size of gradients hardly depends on it.
    Decisions that the teacher has wrong are learned by their labels.

    Args:
        objective: The loss, of decisions with labels.
        logits: Scores of the decisions that are counted.
        targets: Labels.
        taught: What the teacher says of the same decisions.
    """
    labels = objective.labels(targets, logits.shape[1])
    share = taught.share * (taught.logits.argmax(1) == labels)
    wanted = functional.log_softmax(taught.logits / taught.temperature, dim=1)
    found = functional.log_softmax(logits / taught.temperature, dim=1)
    # Classes that the teacher masks out with -infinity have no part in it.
    seen = torch.isfinite(wanted)
    apart = torch.where(seen, wanted.exp() * (wanted - found), 0.0).sum(1)
    own = objective.each(logits, targets)
    return (share * taught.temperature**2 * apart + (1.0 - share) * own).mean()
