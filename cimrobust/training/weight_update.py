"""One step of the optimiser, and what follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cimrobust.training.clipping import clip_weights
from cimrobust.training.training_job import DivergedError, Job

if TYPE_CHECKING:
    from cimrobust.training.parameters import Parameters
    from cimrobust.training.state import State
    from cimrobust.training.training_protocol import EarlyStep, Method, Step

_MOST_SKIPPED = 20
_STATISTICS_SHARE = 0.1
_SMALLEST = 1e-30


def make_optimiser(job: Job, parameters: Parameters) -> torch.optim.Optimizer:
    """Return the optimiser of a training, at its first learning rate."""
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


def _unit(job: Job, name: str, weight: Float32[Tensor, "..."]) -> float:
    """Return what the learning rate of a tensor is measured in.

    1, or the largest of weights that are bare integers, whose scale is applied behind the product.
    """
    grid = job.network.trainable.layers[name].grid
    is_bare = grid is not None and bool((grid.scale[grid.levels(weight) != 0] == 1.0).all())
    return max(float(weight.detach().abs().max()), 1.0) if is_bare else 1.0


def update_early(job: Job, state: State, step: Step, early: EarlyStep) -> bool:
    """Make the step that comes before that of the method's own loss.

    Return whether it was made: not where the loss or its gradient was not finite.
    """
    kept = (
        {name: tensor.detach().clone() for name, tensor in state.parameters.weights.items()}
        if early.discarded
        else {}
    )
    units = (
        {name: chip.reach.detach().clamp(min=_SMALLEST) for name, chip in step.chips.items()}
        if early.normalised
        else {}
    )
    if _descend(job, state, early.loss(step), units) is None:
        return False
    with torch.no_grad():
        for name, tensor in kept.items():
            state.parameters.weights[name].copy_(tensor)
    clip_weights(state.parameters, state.weight_range)
    return True


def update(job: Job, state: State, step: Step) -> float | None:
    """Make the step of the method's own loss.

    Return the loss, None where it or its gradient was not finite.
    """
    loss = _descend(job, state, job.method.loss(step), {})
    if loss is not None:
        clip_weights(state.parameters, state.weight_range)
        _follow_statistics(job, state, step)
        average(job.method, state, step.progress)
    return loss


def _descend(
    job: Job, state: State, loss: Float[Tensor, ""], units: dict[str, Float[Tensor, "..."]]
) -> float | None:
    """Move everything against the gradient; stored weights as shares of their units, if given."""
    state.optimiser.zero_grad(set_to_none=True)
    if loss.requires_grad and bool(torch.isfinite(loss)):
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, tensor in state.parameters.weights.items():
                if name in units and tensor.grad is not None:
                    tensor.grad.mul_(units[name])
        norm = torch.nn.utils.clip_grad_norm_(
            state.parameters.leaves(), job.settings.gradient_norm, foreach=False
        )
        if bool(torch.isfinite(norm)):
            _scale(state.parameters, units, divides=True)
            state.optimiser.step()
            _scale(state.parameters, units, divides=False)
            return float(loss.detach())
    state.skipped += 1
    if state.skipped > _MOST_SKIPPED:
        raise DivergedError(
            f"losses and gradients must be finite, got {state.skipped} steps where they were not"
            f" (method {job.method.name}); give a smaller --learning-rate"
        )
    return None


@torch.no_grad()
def _scale(
    parameters: Parameters, units: dict[str, Float[Tensor, "..."]], *, divides: bool
) -> None:
    """Express stored weights in their units, or put them back."""
    for name, tensor in parameters.weights.items():
        if name in units:
            if divides:
                tensor.div_(units[name])
            else:
                tensor.mul_(units[name])


@torch.no_grad()
def average(method: Method, state: State, progress: float) -> None:
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
    """Let the statistics of normalisations follow the mini-batch without deviation."""
    if not job.settings.update_norms:
        return
    norms = job.network.trainable.digital.normalisations
    weights = {**step.digital, **{name: chip.nominal for name, chip in step.chips.items()}}
    found = job.network.statistics(weights, step.samples, [norm.data for norm in norms])
    for norm in norms:
        for name, value in zip((norm.mean, norm.variance), found[norm.data], strict=True):
            state.parameters.buffers[name].lerp_(value, _STATISTICS_SHARE)
