"""How much of the loss is that of the network without deviation, by what the epochs so far lost.

A multiplier of a constraint (dual ascent), on an epoch's scale: one value that says what the
clean accuracy on the validation split costs at the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.training.state import EpochRow

#: No less is left: what the clean loss cannot bring back costs robustness for nothing. The clean
#: loss of a trained network is small, so below an eighth hardly more clean accuracy is gained
#: (docs/lab-book/retraining.md).
_LEAST = 0.125


def held_share(hold: float, rows: Sequence[EpochRow]) -> float:
    """Return what is left of a method's own loss in the next epoch; the rest is the clean loss.

    1 at first. Each epoch that lost more clean accuracy than allowed multiplies it by `hold`, each
    that did not divides it by the root of `hold`, within an eighth and 1: it comes back slower than
    it goes. It follows from the rows alone, so a checkpoint holds it already.

    Args:
        hold: In (0, 1]; 1: always 1.
        rows: Epochs so far, that before training first, which has no say.
    """
    left = 1.0
    for row in rows[1:]:
        left = min(left * hold**-0.5, 1.0) if row.eligible else max(left * hold, _LEAST)
    return left
