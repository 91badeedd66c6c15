"""Whether the interval bound says enough of a network for its training to follow it.

A bound that is far above what any attack reaches pulls the weights towards what is easily bounded,
away from what is robust. How far depends on depth, on how often a weight is used for one
sample, and on the tolerance: before training, at its full box, the bound of the loss is 1.4 to 5
times the attacked loss of the dense networks measured, and 30 times that of the convolutional ones
or more (docs/lab-book/retraining.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.errors import ModelNotCoveredError
from cimrobust.training.ascent import ascend, deviation_of, random_unit
from cimrobust.training.interval_bound import worst_loss

if TYPE_CHECKING:
    from cimrobust.training.training_protocol import Method, Step

#: Passes of the attack that the bound is compared with.
_PASSES = 6


@dataclass(frozen=True)
class BoundUse:
    """What part the interval bound has in a training.

    Attributes:
        share: Its share of the loss; 0: none.
        ratio: Bound of the loss over the attacked loss, of the network before training at its full
            box; None: not asked for, or there is no bound.
        reason: Why there is no bound that was asked for; None: there is, or nobody asked.
    """

    share: float = 0.0
    ratio: float | None = None
    reason: str | None = None


def bound_use(method: Method, step: Step) -> BoundUse:
    """Return the share of the interval bound in the loss.

    That of the method where the bound is tight, else none.

    Only decisions with labels are asked about: what the bound does for regressions and for a
    teacher's scores has not been measured.

    Args:
        method: The method.
        step: Validation samples of the network before training, its weights clipped as the method
            clips them.
    """
    if not method.bound_share:
        return BoundUse()
    if step.objective.kind != "classes":
        return BoundUse(reason="it is taken for decisions with labels alone")
    try:
        with torch.no_grad():
            bound = float(worst_loss(step, 1.0))
    except (ModelNotCoveredError, CannotBoundError) as err:
        # Without the advice at the end, which is for methods that cannot do without.
        return BoundUse(reason=str(err).rsplit("; ", 1)[0])
    except (RuntimeError, IndexError, ValueError) as err:
        # It costs the bound, not the training.
        return BoundUse(
            reason=(
                "a rule of the bounds fails on a tensor of this network, which is a fault of this"
                f" tool ({type(err).__name__}: {err}); report this"
            )
        )
    still = step.fixed()
    found = ascend(still, random_unit(still), passes=_PASSES, length=1.0)
    with torch.no_grad():
        attacked = float(step.loss(deviation_of(step, found)))
    if not (math.isfinite(bound) and math.isfinite(attacked) and attacked > 0):
        return BoundUse(
            reason=(
                "the bounded and the attacked loss must be finite and positive to be compared, got"
                f" {bound:g} and {attacked:g}"
            )
        )
    ratio = bound / attacked
    return BoundUse(method.bound_share if ratio <= method.tight else 0.0, ratio)
