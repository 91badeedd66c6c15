"""How far the largest weights of a network may be clipped before that alone costs too much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from cimrobust.training.parameters import Parameters
    from cimrobust.training.training_loss import Objective
    from cimrobust.training.training_protocol import Method

#: Steps in which a range is widened, in standard deviations, and the widest: behind it hardly a
#: weight is left to clip.
_STEP, _WIDEST = 0.5, 5.0


def affordable_range(
    method: Method,
    parameters: Parameters,
    objective: Objective,
    clean: Callable[[Parameters], float],
) -> float | None:
    """Return the range that a method clips weights to.

    Its own, or the next wider one that the network before training bears.

    Whether clipping shrinks the box for nothing or breaks the network depends on how its weights
    are spread: at 2 standard deviations digits networks lose hardly anything, a residual network
    for CIFAR half of its accuracy, which a short training does not bring back
    (docs/lab-book/retraining.md).

    Args:
        method: The method.
        parameters: The network before training; not changed.
        objective: Its loss, which says whether a score is an accuracy or an error.
        clean: Scores parameters without deviation.

    Returns:
        Largest weight of a tensor in its standard deviations; None: not limited.
    """
    if method.weight_range is None:
        return None
    allowed = method.clipping_loss
    unclipped = clean(parameters)
    reach = method.weight_range
    while reach <= max(_WIDEST, method.weight_range):
        clipped = parameters.copy()
        clip_weights(clipped, reach)
        score = clean(clipped)
        if (
            score <= unclipped * (1.0 + allowed)
            if objective.kind == "value"
            else unclipped - score <= allowed
        ):
            return reach
        reach += _STEP
    return None


@torch.no_grad()
def clip_weights(parameters: Parameters, reach: float | None) -> None:
    """Clip the largest weights of every tensor, in place.

    Args:
        parameters: What is clipped.
        reach: Largest weight in standard deviations of its tensor; None: nothing is clipped.
    """
    if reach is None:
        return
    for tensor in parameters.weights.values():
        # Two passes of vectors; torch's own `std` goes element by element, in eight times the time.
        spread = torch.linalg.vector_norm(tensor - tensor.mean()) / math.sqrt(tensor.numel())
        limit = float(reach * spread)
        if limit > 0:
            tensor.clamp_(-limit, limit)
