"""A-TRICE: adversarial training and censored noise together.

It has the two readings of the paper's abstract.

The loop that was published is not public (Yan, Hu, Shi, IEEE TCAD 2024, arXiv 2312.06137 states
that the two are combined "efficiently"). *Chained* draws censored noise r, takes
one gradient G at W + r, and descends on the loss at ``project(r + th sign(G))``: two backward runs
a batch. *Summed* adds the loss at an attacked chip to the loss at a noisy one:
three. The name ``a-trice`` stands for the reading that measured better, summed
(docs/lab-book/retraining.md, "Measured").
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cimrobust.training.ascent import ascend, deviation_of, gradients, zero_unit
from cimrobust.training.methods.trice import CENSORING, SIGMA, censored_noise
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_CHAINED = "A-TRICE, chained: one sign step from censored noise, projected to the tolerance box"
_SUMMED = "A-TRICE, summed: loss of an attacked chip plus loss of a chip with censored noise"


def chained_loss(sigma: float, censoring: float, step: Step) -> Tensor:
    """Return the loss at one sign step from censored noise, projected to the box."""
    noise = censored_noise(step, sigma, censoring)
    found = gradients(step.fixed(), {name: part.detach() for name, part in noise.items()})
    attacked = {
        name: chip.project(noise[name] + chip.half * found[name].sign())
        for name, chip in step.chips.items()
    }
    return step.loss(attacked)


def _summed(sigma: float, censoring: float, mixing: float, step: Step) -> Tensor:
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


def _make_summed(values: Mapping[str, float]) -> Method:
    return Method(
        "a-trice-summed",
        _SUMMED,
        partial(_summed, values["sigma"], values["censoring"], values["mixing"]),
        values,
    )


A_TRICE_CHAINED = Recipe(
    "a-trice-chained", _CHAINED, {"sigma": SIGMA, "censoring": CENSORING}, _make_chained
)
A_TRICE_SUMMED = Recipe(
    "a-trice-summed",
    _SUMMED,
    {
        "sigma": SIGMA,
        "censoring": CENSORING,
        "mixing": Knob(0.5, 0.2, 0.9, False, "share of the attacked loss"),
    },
    _make_summed,
)
