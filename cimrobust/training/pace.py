"""The learning rate where none is given: the largest of a few that plain training bears."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cimrobust.progress import NullProgress, Progress
from cimrobust.seeds import stream
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.training_job import DivergedError, Job
from cimrobust.training.training_records import Paced, PacedRate
from cimrobust.training.validation import is_within

if TYPE_CHECKING:
    from cimrobust.settings.training_settings import TrainingSettings
    from cimrobust.training.session import Session

#: Rates that are tried, largest first. The last one is taken untried.
RATES = (2e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4)
_STEPS = 50
#: Standard errors by which more than the clean loss may be lost. An epoch has to be significantly
#: worse to be refused (1.645); a rate is, before, since the rest of the training adds to it.
_ERRORS = 1.0


def choose_pace(
    session: Session, settings: TrainingSettings, *, progress: Progress | None = None
) -> Paced:
    """Return the largest learning rate at which plain training keeps the clean score.

    It loses no more of it than allowed, within the first 50 mini-batches.

    A rate that suits a small network of digits takes a residual network apart in one epoch,
    whatever the method, and no later epoch brings back what it knew.

    Args:
        session: The network and its samples.
        settings: How the training itself is to run.
        progress: Told of every rate.
    """
    progress = progress or NullProgress()
    progress.start("learning rate", len(RATES) - 1)
    tried: list[PacedRate] = []
    before = float("nan")
    for rate in RATES[:-1]:
        job = _job(session, replace(settings, learning_rate=rate))
        try:
            rows = train(
                job, session.parameters, progress=NullProgress(), stops=lambda row: row.epoch == 1
            ).rows
        except DivergedError:
            tried.append(PacedRate(rate=rate, clean=None))
            progress.advance(1, f"{rate:g}: losses are not finite")
            continue
        before, after = rows[0].clean, rows[1].clean
        tried.append(PacedRate(rate=rate, clean=after))
        progress.advance(1, f"{rate:g}: clean {after:.4g} of {before:.4g}")
        if is_within(
            job.objective,
            after,
            before,
            allowed=settings.clean_loss,
            samples=job.validation.count,
            errors=_ERRORS,
        ):
            break
    else:
        rate = RATES[-1]
    progress.finish()
    return Paced(rate=rate, before=before, tried=tuple(tried))


def _job(session: Session, settings: TrainingSettings) -> Job:
    """Return plain training on the first mini-batches.

    The first of two epochs, since along the half cosine of a whole training the rate hardly falls
    in the beginning.
    """
    job = session.job(
        recipe_of("plain").method(), replace(settings, epochs=2, search_passes=1, draws=0)
    )
    order = stream(settings.seed, "retrain", "pace").permutation(job.training.count)[
        : _STEPS * settings.batch
    ]
    return replace(job, training=job.training.part(torch.from_numpy(order).to(job.network.device)))
