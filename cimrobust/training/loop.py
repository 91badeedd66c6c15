"""The training loop: one method, one optimiser, the best epoch kept.

Validation follows every epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError
from cimrobust.progress import Progress
from cimrobust.seeds import stream, stream_key
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.clipping import affordable_range, clip_weights
from cimrobust.training.draws import ChipSource
from cimrobust.training.parameters import Parameters
from cimrobust.training.state import EpochRow, State
from cimrobust.training.tightness import BoundUse, bound_use
from cimrobust.training.trained_network import Samples, TrainingNetwork
from cimrobust.training.training_checkpoint import read_checkpoint, write_checkpoint
from cimrobust.training.training_loss import Objective
from cimrobust.training.training_protocol import Method, Step
from cimrobust.training.validation import Scored, clean_score, is_better, is_within, validate

_MOST_SKIPPED = 20
_STATISTICS_SHARE = 0.1
#: Standard errors of a one-sided test at 5 %.
_ONE_SIDED = 1.645


class DivergedError(CimrobustError):
    """Losses or gradients were not finite too often."""

    exit_code = 2


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
    """

    parameters: Parameters
    rows: tuple[EpochRow, ...]
    best_epoch: int
    stopped_early: bool
    weight_range: float | None
    bound: BoundUse


@dataclass(frozen=True)
class Job:
    """What a training works on.

    Attributes:
        network: The network.
        objective: Its loss.
        training: Samples to train on.
        validation: Samples to choose the epoch by.
        source: Draws chips.
        method: The method.
        settings: The settings.
        digest: Digest of model, data, profile, method and settings; a checkpoint of another job is
            not taken over.
    """

    network: TrainingNetwork
    objective: Objective
    training: Samples
    validation: Samples
    source: ChipSource
    method: Method
    settings: TrainingSettings
    digest: str = ""


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
    and the step, so a run gives the same weights on every number of
    workers, and from every checkpoint.

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
            stopped = _has_waited(job, state)
            if stopped:
                break
            started = time.perf_counter()
            loss, rate = _epoch(job, state, epoch)
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
        state.best, tuple(state.rows), state.best_epoch, stopped, state.weight_range, state.bound
    )


def make_step(
    job: Job,
    parameters: Parameters,
    samples: Samples,
    *,
    progress: float,
    generator: torch.Generator,
    memory: dict[str, Tensor],
    bound_share: float = 0.0,
) -> Step:
    """Return a mini-batch with the weights of the moment programmed."""
    stored = job.network.stored(parameters)
    chips = {
        name: devices.program(stored[name])
        for name, devices in job.network.trainable.devices.items()
    }

    def draw(number: int) -> dict[str, Tensor]:
        return job.source.deviations(
            stored, job.network.trainable.devices, chips, range(number, number + 1)
        )[0]

    return Step(
        job.network,
        job.objective,
        samples,
        chips,
        job.network.digital(parameters),
        generator,
        progress,
        memory,
        draw,
        bound_share,
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
    return State(
        own,
        averaged,
        own.copy(),
        _optimiser(job, own),
        {},
        [],
        weight_range=reach,
        bound=_bound_use(job, parameters, reach),
    )


def _bound_use(job: Job, parameters: Parameters, reach: float | None) -> BoundUse:
    """Return what part the interval bound has.

    It is measured on as many validation samples as a mini-batch has.
    """
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


def _optimiser(job: Job, parameters: Parameters) -> torch.optim.Optimizer:
    settings = job.settings
    units = {name: _unit(job, name, tensor) for name, tensor in parameters.weights.items()}
    # Decay is a share of the weights, whatever they are measured in.
    groups = [
        {
            "params": [tensor],
            "unit": units[name],
            "weight_decay": settings.weight_decay / units[name],
        }
        for name, tensor in parameters.weights.items()
    ]
    groups += [{"params": [tensor], "unit": 1.0} for tensor in parameters.digital.values()]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            groups,
            lr=settings.first_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=settings.weight_decay,
            foreach=False,
        )
    return torch.optim.AdamW(
        groups, lr=settings.first_rate, weight_decay=settings.weight_decay, foreach=False
    )


def _unit(job: Job, name: str, weight: Tensor) -> float:
    """Return what the learning rate of a tensor is measured in.

    1, or the largest of weights that are bare integers, whose scale is applied behind the product.
    """
    grid = job.network.trainable.layers[name].grid
    is_bare = grid is not None and bool((grid.scale[grid.levels(weight) != 0] == 1.0).all())
    return max(float(weight.detach().abs().max()), 1.0) if is_bare else 1.0


def _epoch(job: Job, state: State, epoch: int) -> tuple[float, float]:
    """Train for one epoch; return the mean loss and the last learning rate."""
    settings, count = job.settings, job.training.count
    order = torch.from_numpy(
        stream(settings.seed, "retrain", "order", epoch).permutation(count)
    ).to(job.network.device)
    batches = torch.split(order, min(settings.batch, count))
    total, used, rate = 0.0, 0, settings.first_rate
    for index, batch in enumerate(batches):
        done = (epoch - 1 + index / len(batches)) / settings.epochs
        rate = 0.5 * settings.first_rate * (1.0 + math.cos(math.pi * done))
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["unit"]
        generator = torch.Generator().manual_seed(
            stream_key(settings.seed, "retrain", "step", epoch, index) % 2**63
        )
        step = make_step(
            job,
            state.parameters,
            job.training.part(batch),
            progress=done,
            generator=generator,
            memory=state.memory,
            bound_share=state.bound.share,
        )
        loss = _update(job, state, step)
        if loss is None:
            continue
        total, used = total + loss * len(batch), used + len(batch)
    return total / max(used, 1), rate


def _update(job: Job, state: State, step: Step) -> float | None:
    """Make one step of the optimiser.

    Return the loss, None where it or its gradient was not finite.
    """
    state.optimiser.zero_grad(set_to_none=True)
    loss = job.method.loss(step)
    if loss.requires_grad and bool(torch.isfinite(loss)):
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            state.parameters.leaves(), job.settings.gradient_norm, foreach=False
        )
        if bool(torch.isfinite(norm)):
            state.optimiser.step()
            clip_weights(state.parameters, state.weight_range)
            _follow_statistics(job, state, step)
            _average(job.method, state, step.progress)
            return float(loss.detach())
    state.skipped += 1
    if state.skipped > _MOST_SKIPPED:
        raise DivergedError(
            f"losses and gradients must be finite, got {state.skipped} steps where they were not"
            f" (method {job.method.name}); give a smaller --learning-rate"
        )
    return None


@torch.no_grad()
def _average(method: Method, state: State, progress: float) -> None:
    """Move the running mean of the weights.

    It follows faster at first, so that the start is forgotten.
    """
    if not method.averaging:
        return
    decay = min(method.averaging, 0.5 + progress)
    averaged, current = state.averaged, state.parameters
    for mine, theirs in (
        (averaged.weights, current.weights),
        (averaged.digital, current.digital),
        (averaged.buffers, current.buffers),
    ):
        for name, tensor in mine.items():
            tensor.lerp_(theirs[name], 1.0 - decay)


@torch.no_grad()
def _follow_statistics(job: Job, state: State, step: Step) -> None:
    """Let stored normalisation statistics follow those of the mini-batch without deviation."""
    if not job.settings.update_norms:
        return
    norms = job.network.trainable.digital.normalisations
    weights = {**step.digital, **{name: chip.nominal for name, chip in step.chips.items()}}
    found = job.network.statistics(weights, step.samples, [norm.data for norm in norms])
    for norm in norms:
        for name, value in zip((norm.mean, norm.variance), found[norm.data], strict=True):
            state.parameters.buffers[name].lerp_(value, _STATISTICS_SHARE)


def _append(
    job: Job, state: State, epoch: int, *, loss: float, rate: float, started: float, trained: float
) -> None:
    """Validate, add a row, and keep the weights if they are the best."""
    scored = _score(job, state.averaged, epoch)
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
        eligible=_is_eligible(
            job, scored.clean, state.rows[0].clean if state.rows else scored.clean
        ),
        seconds=now - started,
        training_seconds=trained - started,
    )
    state.rows.append(row)
    best = state.rows[state.best_epoch]
    # The start is no result: the first epoch always takes its place, so that what is written was
    # trained.
    if epoch > 0 and (state.best_epoch == 0 or _beats(job, row, best)):
        state.best_epoch = epoch
        state.best.load(state.averaged)


def _has_waited(job: Job, state: State) -> bool:
    """Tell whether nothing has become better for so long that training should stop.

    Waiting begins when the box has its full size.
    """
    latest, since = (
        state.rows[-1].epoch,
        max(state.best_epoch, math.ceil(job.method.ready * job.settings.epochs)),
    )
    return state.best_epoch > 0 and latest - since >= job.settings.longest_wait


def _is_eligible(job: Job, clean: float, before: float) -> bool:
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


def _beats(job: Job, row: EpochRow, best: EpochRow) -> bool:
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
