"""Ours, after the idea of A-TRICE: censored noise and an attack that stays in the tolerance box.

*Chained* draws censored noise r, takes one gradient G at W + r, and descends on the loss at
``project(r + th sign(G))``: two backward runs a batch. *Projected* adds the loss at an attacked
chip to the loss at a noisy one: three. Both take the gradient of the cross-entropy, never leave
the box, and deploy the weights as trained; the methods of the authors are in `a_trice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cimrobust.training.ascent import ascend, deviation_of, gradients, zero_unit
from cimrobust.training.methods.trice import CENSORING, SIGMA, censored_noise
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_CHAINED = "ours: one sign step from censored noise, projected to the tolerance box"
_PROJECTED = (
    "ours: loss of a chip attacked inside the tolerance box plus loss of a chip with censored noise"
)


def chained_loss(sigma: float, censoring: float, step: Step) -> Float[Tensor, ""]:
    """Return the loss at one sign step from censored noise, projected to the box."""
    noise = censored_noise(step, sigma, censoring)
    found = gradients(step.fixed(), {name: part.detach() for name, part in noise.items()})
    attacked = {
        name: chip.project(noise[name] + chip.half * found[name].sign())
        for name, chip in step.chips.items()
    }
    return step.loss(attacked)


def _projected(sigma: float, censoring: float, mixing: float, step: Step) -> Float[Tensor, ""]:
    attacked = ascend(step.fixed(), zero_unit(step), passes=1, length=1.0)
    noisy = step.loss(censored_noise(step, sigma, censoring))
    return mixing * step.loss(deviation_of(step, attacked)) + (1.0 - mixing) * noisy


def _make_chained(values: Mapping[str, float]) -> Method:
    return Method(
        "a-trice-chained",
        _CHAINED,
        partial(chained_loss, values["sigma"], values["censoring"]),
        values,
    )


def _make_projected(values: Mapping[str, float]) -> Method:
    return Method(
        "a-trice-projected",
        _PROJECTED,
        partial(_projected, values["sigma"], values["censoring"], values["mixing"]),
        values,
    )


A_TRICE_CHAINED = Recipe(
    "a-trice-chained", _CHAINED, {"sigma": SIGMA, "censoring": CENSORING}, _make_chained
)
A_TRICE_PROJECTED = Recipe(
    "a-trice-projected",
    _PROJECTED,
    {
        "sigma": SIGMA,
        "censoring": CENSORING,
        "mixing": Knob(0.5, 0.2, 0.9, False, "share of the attacked loss"),
    },
    _make_projected,
)
