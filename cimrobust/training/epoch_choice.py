"""What the epochs so far decide.

Which is kept, when training stops waiting for a better one, and how much of the next one's loss is
that of the network without deviation: a multiplier of a constraint (dual ascent), on an epoch's
scale, one value that says what the clean accuracy on the validation split costs at the moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cimrobust.training.validation import is_better, is_within

if TYPE_CHECKING:
    from cimrobust.training.state import EpochRow, State
    from cimrobust.training.training_job import Job

#: Standard errors of a one-sided test at 5 %.
_ONE_SIDED = 1.645
#: No less is left: what the clean loss cannot bring back costs robustness for nothing. The clean
#: loss of a trained network is small, so below an eighth hardly more clean accuracy is gained
#: (docs/lab-book/retraining.md).
_LEAST = 0.125


def has_waited(job: Job, state: State) -> bool:
    """Tell whether nothing has become better for so long that training should stop.

    Waiting begins when the box has its full size.
    """
    latest, since = (
        state.rows[-1].epoch,
        max(state.best_epoch, math.ceil(job.method.ready * job.settings.epochs)),
    )
    return state.best_epoch > 0 and latest - since >= job.settings.longest_wait


def is_eligible(job: Job, clean: float, before: float) -> bool:
    """Tell whether no more is lost than allowed, as far as the validation split can tell.

    A loss beyond it has to be significant (5 %, one side).

    The network has often seen these samples when it was made, and then scores better on them than
    on any others.
    """
    return is_within(
        job.objective,
        clean,
        before,
        allowed=job.settings.clean_loss,
        samples=job.validation.count,
        errors=_ONE_SIDED,
    )


def beats(job: Job, row: EpochRow, best: EpochRow) -> bool:
    """Tell whether an epoch is better.

    Within the clean loss, trained in the whole box, then what is proved, the attacked score, the
    percentile, clean.
    """
    ranks = [
        (one.eligible, one.eligible and one.epoch >= job.method.ready * job.settings.epochs)
        for one in (row, best)
    ]
    if ranks[0] != ranks[1]:
        return ranks[0] > ranks[1]
    # Where nothing is proved or drawn the numbers are NaN, and no NaN is better than another.
    order = ("proved", "attacked", "kpp", "clean") if row.eligible else ("clean", "attacked", "kpp")
    for name in order:
        mine, theirs = getattr(row, name), getattr(best, name)
        # What is proved is a share of decisions, never an error.
        if is_better(job.objective, mine, theirs) if name != "proved" else mine > theirs:
            return True
        if is_better(job.objective, theirs, mine) if name != "proved" else theirs > mine:
            return False
    return False


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
