"""Adversarial weight perturbation.

One step along the gradient, its length relative to the norm of each layer.

An outside competitor whose perturbation knows nothing of devices.

References:
    Wu, Xia, Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020,
    arXiv 2004.05884, equations 7 to 9 (without the attack on inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cimrobust.training.ascent import gradients
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_WHAT = (
    "adversarial weight perturbation: a step along the gradient, relative to the norm of each layer"
)
_SMALLEST = 1e-12


def _loss(gamma: float, step: Step) -> Float[Tensor, ""]:
    fixed = step.fixed()
    found = gradients(fixed, {name: 0.0 * chip.nominal for name, chip in fixed.chips.items()})
    return step.loss(
        {
            name: gamma * chip.nominal.norm() / (found[name].norm() + _SMALLEST) * found[name]
            for name, chip in fixed.chips.items()
        }
    )


def _make(values: Mapping[str, float]) -> Method:
    return Method("awp", _WHAT, partial(_loss, values["gamma"]), values)


AWP = Recipe(
    "awp",
    _WHAT,
    {
        "gamma": Knob(
            0.1, 0.01, 0.5, True, "length of the perturbation over the norm of the weights"
        )
    },
    _make,
)
