"""The training loop: one method, validation after every epoch, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.seeds import stream, stream_key
from cimrobust.training.clipping import affordable_range, clip_weights
from cimrobust.training.epoch_choice import beats, has_waited, held_share, is_eligible
from cimrobust.training.network_teacher import open_teacher
from cimrobust.training.parameters import Parameters
from cimrobust.training.sigma_search import search_epoch, start_copies
from cimrobust.training.state import EpochRow, State
from cimrobust.training.tightness import BoundUse, bound_use
from cimrobust.training.training_checkpoint import read_checkpoint, write_checkpoint
from cimrobust.training.training_job import Job, deployed, make_step
from cimrobust.training.validation import Scored, clean_score, validate
from cimrobust.training.weight_update import make_optimiser, update, update_early

if TYPE_CHECKING:
    from cimrobust.progress import Progress
    from cimrobust.training.taught_loss import Taught
    from cimrobust.training.trained_network import Samples
    from cimrobust.training.training_protocol import Step


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        parameters: Those of the best epoch.
        rows: Every epoch, that before training first.
        best_epoch: Epoch kept; 0 where none was better than the start.
        stopped_early: Training stopped before all epochs were over.
        weight_range: Largest weight of a tensor in its standard deviations; None: not limited.
        bound: What part the interval bound had.
        sigma: Scale of the noise that a search chose, in units of max|W|; None: no search.
    """

    parameters: Parameters
    rows: tuple[EpochRow, ...]
    best_epoch: int
    stopped_early: bool
    weight_range: float | None
    bound: BoundUse
    sigma: float | None = None


def train(
    job: Job,
    parameters: Parameters,
    *,
    progress: Progress,
    checkpoint: Path | None = None,
    stops: Callable[[EpochRow], bool] | None = None,
) -> Trained:
    """Train a network.

    Everything is computed by one torch thread, and every random number is a function of the seed
    and the step, so a run gives the same weights on every number of workers, and from every
    checkpoint.

    Args:
        job: What to do.
        parameters: Where to start; not changed.
        progress: Told of every epoch.
        checkpoint: File that every epoch is written to, and that an interrupted run of the same job
            goes on from; None: none.
        stops: Told of every epoch; training ends where it says so.

    Raises:
        DivergedError: Losses were not finite too often.
    """
    settings = job.settings
    settings.check()
    with one_torch_thread():
        state = start_training(job, parameters)
        first = read_checkpoint(checkpoint, job.digest, state) if checkpoint is not None else None
        if first is None:
            _append(
                job,
                state,
                0,
                loss=float("nan"),
                rate=settings.first_rate,
                started=time.perf_counter(),
                trained=time.perf_counter(),
            )
        progress.start(f"training: {job.method.name}", settings.epochs)
        progress.advance(state.rows[-1].epoch)
        stopped = False
        for epoch in range(state.rows[-1].epoch + 1, settings.epochs + 1):
            stopped = has_waited(job, state)
            if stopped:
                break
            started = time.perf_counter()
            if state.copies is None:
                loss, rate = train_epoch(job, state, epoch)
            else:
                loss, rate = search_epoch(job, state, state.copies, epoch, train_epoch)
            _append(
                job,
                state,
                epoch,
                loss=loss,
                rate=rate,
                started=started,
                trained=time.perf_counter(),
            )
            if checkpoint is not None:
                write_checkpoint(checkpoint, job.digest, state)
            progress.advance(1, _note(state.rows[-1]))
            stopped = stops is not None and stops(state.rows[-1]) and epoch < settings.epochs
            if stopped:
                break
        progress.finish()
    return Trained(
        state.best,
        tuple(state.rows),
        state.best_epoch,
        stopped,
        state.weight_range,
        state.bound,
        state.best_sigma,
    )


def start_training(job: Job, parameters: Parameters) -> State:
    """Return where a training begins: with what is chosen by the network as it is."""
    own = parameters.copy()
    for tensor in own.leaves():
        tensor.requires_grad_()
    averaged = own.copy() if job.method.averaging else own
    step = partial(
        make_step, job, samples=job.validation, progress=0.0, generator=torch.Generator(), memory={}
    )
    reach = affordable_range(
        job.method, parameters, job.objective, lambda clipped: clean_score(step(clipped))
    )
    state = State(
        own,
        averaged,
        own.copy(),
        make_optimiser(job, own),
        {},
        [],
        weight_range=reach,
        bound=_bound_use(job, parameters, reach),
        teacher=open_teacher(job, parameters),
        mean=job.method.deployed_mean,
    )
    state.copies = start_copies(job, state)
    return state


def _bound_use(job: Job, parameters: Parameters, reach: float | None) -> BoundUse:
    """Return what part the interval bound has, from a mini-batch of validation samples."""
    clipped = parameters.copy()
    clip_weights(clipped, reach)
    few = job.validation.part(
        torch.arange(min(job.settings.batch, job.validation.count), device=job.network.device)
    )
    generator = torch.Generator().manual_seed(
        stream_key(job.settings.seed, "retrain", "bound") % 2**63
    )
    return bound_use(
        job.method, make_step(job, clipped, few, progress=0.0, generator=generator, memory={})
    )


def train_epoch(job: Job, state: State, epoch: int) -> tuple[float, float]:
    """Train for one epoch; return the mean loss and the last learning rate."""
    settings, count = job.settings, job.training.count
    order = torch.from_numpy(
        stream(settings.seed, "retrain", "order", epoch).permutation(count)
    ).to(job.network.device)
    batches = torch.split(order, min(settings.batch, count))
    held = held_share(job.method.hold, state.rows)
    total, used, rate = 0.0, 0, settings.first_rate
    for index, batch in enumerate(batches):
        done = (epoch - 1 + index / len(batches)) / settings.epochs
        rate = 0.5 * settings.first_rate * (1.0 + math.cos(math.pi * done))
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["unit"]
        generator = torch.Generator().manual_seed(
            stream_key(settings.seed, "retrain", "step", epoch, index) % 2**63
        )
        samples = job.training.part(batch)
        taught = None if state.teacher is None else state.teacher.taught(batch)

        def program(
            samples: Samples = samples,
            done: float = done,
            generator: torch.Generator = generator,
            taught: Taught | None = taught,
        ) -> Step:
            return make_step(
                job,
                state.parameters,
                samples,
                progress=done,
                generator=generator,
                memory=state.memory,
                bound_share=state.bound.share,
                held=held,
                taught=taught,
            )

        early = job.method.early
        if early is not None and not update_early(job, state, program(), early):
            continue
        loss = update(job, state, program())
        if loss is None:
            continue
        total, used = total + loss * len(batch), used + len(batch)
    return total / max(used, 1), rate


def _append(
    job: Job, state: State, epoch: int, *, loss: float, rate: float, started: float, trained: float
) -> None:
    """Validate, add a row, and keep the weights if they are the best."""
    # Before training nothing is noisy yet: the row of the start is that of the file.
    shown = deployed(job, state.averaged, state.mean if epoch else 0.0)
    scored = _score(job, shown, epoch)
    now = time.perf_counter()
    row = EpochRow(
        epoch=epoch,
        loss=loss,
        clean=scored.clean,
        attacked=scored.attacked,
        kpp=scored.kpp,
        mean=scored.mean,
        proved=scored.proved,
        learning_rate=rate,
        skipped=state.skipped,
        eligible=is_eligible(
            job, scored.clean, state.rows[0].clean if state.rows else scored.clean
        ),
        seconds=now - started,
        training_seconds=trained - started,
    )
    state.rows.append(row)
    best = state.rows[state.best_epoch]
    # The start is no result: the first epoch always takes its place, so that what is written was
    # trained.
    if epoch > 0 and (state.best_epoch == 0 or beats(job, row, best)):
        state.best_epoch = epoch
        state.best.load(shown)
        state.best_sigma = None if state.copies is None else state.copies.sigma


def _score(job: Job, parameters: Parameters, epoch: int) -> Scored:
    generator = torch.Generator().manual_seed(
        stream_key(job.settings.seed, "retrain", "validation") % 2**63
    )
    step = make_step(
        job,
        parameters,
        job.validation,
        progress=epoch / job.settings.epochs,
        generator=generator,
        memory={},
    )
    draws = job.source.deviations(
        job.network.stored(parameters),
        job.network.trainable.devices,
        step.chips,
        range(job.settings.draws),
    )
    return validate(step, passes=job.settings.search_passes, draws=draws, proves=job.method.proves)


def _note(row: EpochRow) -> str:
    return f"loss {row.loss:.3g}, clean {row.clean:.4g}, attacked {row.attacked:.4g}"
