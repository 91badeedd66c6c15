"""A-TRICE as its authors wrote it: an attacked loss and a loss under censored noise.

The authors' public code held four versions within six days; which one the paper measured cannot be
told, so all are here, chosen by ``--set version=...``. Common to them: right-censored noise n (as
in `trice`), *one* sign step of the attack, not projected to any box, along the gradient of the
summed positive margins ``max(Z_t - max(0, max_{i != t} Z_i), 0)``; and the mean of the noise in
the deployed weights, which in the code belongs to the last version alone.

======================  ==================  ===================================================
version                 the attack starts   steps of the optimiser in one mini-batch
======================  ==================  ===================================================
``v1``                  at zero             one, on alpha CE(W + d) + CE(W + n)
``v2``                  at the same n       one, on CE(W + n) + alpha CE(W + d)
``v3``                  at a draw of n      two: alpha CE(W + d), then CE(W + n'), n' fresh
``v4``                  at the mean of n    two, as ``v3``; the first on weights over max|W|
``v4-as-published``     the same            as ``v4`` with two faults of the code
======================  ==================  ===================================================

The faults of ``v4-as-published``: the first step is thrown away for all stored weights, since the
code points the tensors back at their old values (biases and the moments of the optimiser keep it);
and the start of the attack is in units of the weights while all else is in units of max|W|.

Not as in the code: ``eta``, the length of the sign step, is in half-widths of every weight's
tolerance interval, and 1 by default (the code has it in units of max|W|, with 0 as default, as for
``alpha``); the optimiser and its schedule are those of `loop`; the epoch is chosen on the
validation split, by what is attacked (the authors: by accuracy under drawn noise, on the *test*
set).

References:
    Yan, Hu, Shi, "Compute-in-Memory based Neural Network Accelerators for Safety-Critical Systems:
    Worst-Case Scenarios and Protections", IEEE TCAD 2024, arXiv 2312.06137; and the authors' public
    code, re-implemented from its description.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cimrobust.training.ascent import gradients
from cimrobust.training.methods.trice import (
    CENSORING,
    MEAN,
    SIGMA,
    censored_mean,
    constant_noise,
    deployed_mean,
    noisy_loss,
)
from cimrobust.training.training_protocol import EarlyStep, Knob, Method, Recipe, Step

if TYPE_CHECKING:
    from cimrobust.training.training_loss import Objective

_WHAT = "A-TRICE as its authors wrote it: one unprojected sign step, and censored noise"
Values = Mapping[str, float]
Made = dict[str, Float[Tensor, "..."]]


def positive_margins(
    objective: Objective,
    logits: Float[Tensor, "decisions classes"],
    targets: Shaped[Tensor, "samples ..."],
) -> Float[Tensor, ""]:
    """Return the summed ``max(Z_t - max(0, max_{i != t} Z_i), 0)``, which the attack lowers.

    The runner-up is 0 where all other logits are negative, as in the authors' code.
    """
    logits, labels = objective.decisive(logits, targets)
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -float("inf")).amax(1).clamp(min=0)
    return (own - others).clamp(min=0).sum()


def sign_step(eta: float, start: Mapping[str, Float[Tensor, "..."]], step: Step) -> Made:
    """Return where one sign step leads that lowers the summed positive margins.

    Args:
        eta: Its length, in half-widths of the interval of every weight.
        start: Deviations that it starts from.
        step: The mini-batch.
    """
    fixed = step.fixed()
    begun = {name: part.detach() for name, part in start.items()}

    def loss(
        logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> Float[Tensor, ""]:
        return -positive_margins(step.objective, logits, targets)

    found = gradients(fixed, begun, loss)
    return {
        name: found[name].sign().mul_(eta * chip.half).add_(begun[name])
        for name, chip in fixed.chips.items()
    }


def _zero(step: Step) -> Made:
    return {name: torch.zeros_like(chip.nominal) for name, chip in step.chips.items()}


def _mean(values: Values, power: int, step: Step) -> Made:
    """Return the mean of the noise, times a power of max|W|."""
    size = values["sigma"] * censored_mean(values["censoring"])
    return {
        name: (size * chip.reach.detach() ** power).expand_as(chip.nominal)
        for name, chip in step.chips.items()
    }


def _summed_loss(values: Values, starts_at_noise: bool, step: Step) -> Float[Tensor, ""]:
    noise = constant_noise(step, values)
    attacked = sign_step(values["eta"], noise if starts_at_noise else _zero(step), step)
    return values["alpha"] * step.loss(attacked) + step.loss(noise)


def _attacked_loss(values: Values, start: Callable[[Step], Made], step: Step) -> Float[Tensor, ""]:
    return values["alpha"] * step.loss(sign_step(values["eta"], start(step), step))


def _method(
    values: Values, loss: Callable[[Step], Float[Tensor, ""]], early: EarlyStep | None
) -> Method:
    return Method(
        "a-trice",
        _WHAT,
        loss,
        values,
        early=early,
        deployed_mean=deployed_mean(values),
        needs_classes=True,
    )


def _v1(values: Values) -> Method:
    return _method(values, partial(_summed_loss, dict(values), False), None)


def _v2(values: Values) -> Method:
    return _method(values, partial(_summed_loss, dict(values), True), None)


def _two_steps(
    values: Values,
    start: Callable[[Step], Made],
    *,
    normalised: bool = False,
    discarded: bool = False,
) -> Method:
    attacked = partial(_attacked_loss, dict(values), start)
    early = EarlyStep(attacked, normalised=normalised, discarded=discarded)
    return _method(values, partial(noisy_loss, dict(values)), early)


def _v3(values: Values) -> Method:
    def drawn(step: Step) -> Made:
        return constant_noise(step, values)

    return _two_steps(values, drawn)


def _v4(values: Values) -> Method:
    return _two_steps(values, partial(_mean, dict(values), 1), normalised=True)


def _v4_as_published(values: Values) -> Method:
    # The start is max|W| times too small or large: it is added to weights in units of max|W|.
    return _two_steps(values, partial(_mean, dict(values), 2), normalised=True, discarded=True)


#: The default is the one that measures best (docs/lab-book/retraining.md).
VERSIONS = {"v3": _v3, "v1": _v1, "v2": _v2, "v4": _v4, "v4-as-published": _v4_as_published}

A_TRICE = Recipe(
    "a-trice",
    _WHAT,
    {
        "sigma": SIGMA,
        "censoring": CENSORING,
        "alpha": Knob(1.0, 0.2, 4.0, True, "weight of the attacked loss"),
        "eta": Knob(1.0, 0.3, 2.0, False, "length of the sign step in half-widths"),
        "mean": MEAN,
    },
    _v3,
    VERSIONS,
)
