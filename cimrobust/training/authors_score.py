"""The worst-case scores that the authors of TRICE and A-TRICE report, beside our search.

Both find one noise N for all samples, in units of the largest weight of every layer, from the
gradient of the summed margins over the *whole* evaluation set, and are kept as they are in the
authors' public code, faults included: they say what a paper would have reported of a network, not
how bad it can become. Neither keeps to the tolerance box: how far the result leaves it is part of
it. Re-implemented from a description of that code.

References:
    Yan, Hu, Shi, "Computing-In-Memory Neural Network Accelerators for Safety-Critical Systems: Can
    Small Device Variations Be Disastrous?", ICCAD 2022, arXiv 2207.07626; IEEE TCAD 2024, arXiv
    2312.06137.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.training.ascent import gradients
from cimrobust.training.methods.a_trice import positive_margins

if TYPE_CHECKING:
    from cimrobust.training.trained_network import Samples
    from cimrobust.training.training_protocol import Step

#: Steps in which the sign walk would cross its bound, and the most steps as a multiple of it.
RUNS, MOST_ROUNDS = 10, 10
#: Samples of a mini-batch of the Carlini-Wagner search, its epochs, and its values of c.
BATCH, EPOCHS, ROUNDS = 128, 10, 10
#: First c; large, since the search only ever lowers it.
FIRST_WEIGHT = 1.0
#: Bounds that a weight that always moves the same way crosses in one run of the Carlini-Wagner
#: search, which sets its learning rate. The code has rates between 1e-5 and 1e-2, and not which one
#: belongs to which network; this one ends as near to the bound as the search allows.
_SPEED = 1.05
#: Ten steps of a tenth are the whole in exact numbers; float32 may fall short of it.
_WHOLE = 1.0 - 1e-5

Noise = dict[str, Float[Tensor, "..."]]


@dataclass(frozen=True)
class Deviated:
    """A pattern that one of the authors' searches ends at.

    Attributes:
        deviations: Deviation of every stored weight, by initializer.
        reached: Largest magnitude of any deviation, over the bound; above 1 it is outside.
        steps: Steps that it took, of all rounds.
    """

    deviations: dict[str, Float32[np.ndarray, "..."]]
    reached: float
    steps: int


def bound_of(step: Step) -> float:
    """Return the bound of the tolerance box in units of max|W|, the largest of all layers."""
    return max(
        float((torch.maximum(chip.hi, -chip.lo) / chip.reach.clamp(min=1e-30)).max())
        for chip in step.fixed().chips.values()
    )


def sign_walk(step: Step) -> Deviated:
    """Return where the authors' sign steps end.

    Every step lowers the summed margins by ``bound / 10`` in every weight. The walk ends after 100
    steps, or when the largest *positive* noise has reached the bound; noise may pass it on the
    negative side.

    Args:
        step: All evaluation samples, on the network that is scored.
    """
    fixed, bound = step.fixed(), bound_of(step)
    batches = _batches(fixed)
    noise = _nothing(fixed)
    taken = 0
    with one_torch_thread():
        while taken < MOST_ROUNDS * RUNS and _largest(noise, lambda part: part) < _WHOLE * bound:
            found = _gradients(fixed, noise, batches)
            noise = {
                name: part - (bound / RUNS) * found[name].sign() for name, part in noise.items()
            }
            taken += 1
    return _deviated(fixed, noise, bound, taken)


def carlini_wagner_as_published(step: Step) -> Deviated | None:
    """Return what the authors' Carlini-Wagner search keeps.

    Adam on ``c sum_k max(Z_t - max(0, max_{i != t} Z_i), 0) + max|N|``, from zero, mini-batch by
    mini-batch, ten values of c. A noise that reaches the bound is kept, so the result lies on or
    *outside* it; c is halved where it reaches it, and goes half-way back where it does not.

    Args:
        step: All evaluation samples, on the network that is scored.

    Returns:
        The kept noise that is nearest to the bound; None where no noise reached it, after which
        the authors' search repeats one c for ever.
    """
    fixed, bound = step.fixed(), bound_of(step)
    weight, least, taken = FIRST_WEIGHT, None, 0
    kept: tuple[float, Noise] | None = None
    with one_torch_thread():
        for _ in range(ROUNDS):
            noise, steps = _descend(fixed, weight, bound)
            taken += steps
            distance = _largest(noise, torch.abs)
            if distance >= bound:
                kept = (distance, noise) if kept is None or distance < kept[0] else kept
                least, weight = weight, 0.5 * weight
            elif least is None:
                break
            else:
                weight = 0.5 * (weight + least)
    return None if kept is None else _deviated(fixed, kept[1], bound, taken)


def _descend(fixed: Step, weight: float, bound: float) -> tuple[Noise, int]:
    """Run Adam at one c; return the noise it ends at and its steps."""
    noise = {name: part.requires_grad_() for name, part in _nothing(fixed).items()}
    batches = _batches(fixed, BATCH)
    steps = EPOCHS * len(batches)
    adam = torch.optim.Adam(noise.values(), lr=_SPEED * bound / steps, foreach=False)
    for _ in range(EPOCHS):
        for batch in batches:
            still = {name: part.detach() for name, part in noise.items()}
            found = _gradients(fixed, still, [batch])
            adam.zero_grad()
            torch.stack([part.abs().amax() for part in noise.values()]).amax().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, part in noise.items():
                    assert part.grad is not None
                    part.grad += weight * found[name]
            adam.step()
    return {name: part.detach() for name, part in noise.items()}, steps


def _gradients(
    fixed: Step, noise: Mapping[str, Float[Tensor, "..."]], batches: Sequence[Samples]
) -> Noise:
    """Return the gradient of the summed margins of some samples, with respect to the noise."""
    chip = {name: noise[name] * own.reach for name, own in fixed.chips.items()}

    def loss(
        logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> Float[Tensor, ""]:
        return positive_margins(fixed.objective, logits, targets)

    total = {name: torch.zeros_like(part) for name, part in noise.items()}
    for batch in batches:
        found = gradients(replace(fixed, samples=batch), chip, loss)
        for name, own in fixed.chips.items():
            total[name] += found[name] * own.reach
    return total


def _batches(step: Step, size: int = BATCH) -> list[Samples]:
    order = torch.arange(step.samples.count, device=step.samples.targets.device)
    return [step.samples.part(part) for part in torch.split(order, size)]


def _nothing(fixed: Step) -> Noise:
    return {name: torch.zeros_like(chip.nominal) for name, chip in fixed.chips.items()}


def _largest(
    noise: Mapping[str, Float[Tensor, "..."]],
    size: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]],
) -> float:
    return max((float(size(part).max()) for part in noise.values() if part.numel()), default=0.0)


def _deviated(fixed: Step, noise: Noise, bound: float, steps: int) -> Deviated:
    deviations = {
        name: (noise[name] * chip.reach).cpu().numpy() for name, chip in fixed.chips.items()
    }
    reached = _largest(noise, torch.abs)
    return Deviated(deviations, reached / bound if bound > 0 else 0.0, steps)
