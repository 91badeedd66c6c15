"""Which epoch is kept, and when training stops waiting for a better one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cimrobust.training.validation import is_better, is_within

if TYPE_CHECKING:
    from cimrobust.training.state import EpochRow, State
    from cimrobust.training.training_job import Job

#: Standard errors of a one-sided test at 5 %.
_ONE_SIDED = 1.645


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
