"""Noise on every weight, fresh in every mini-batch: variation-aware training as usual.

Gaussian, or as the devices of the profile deviate.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_WHAT = "Gaussian noise on the weights"
_DRAWN = "chips drawn from the distribution of the device profile"


def _loss(sigma: float, step: Step) -> Float[Tensor, ""]:
    return step.loss(
        {
            name: (chip.reach * sigma) * step.normal(chip.nominal)
            for name, chip in step.chips.items()
        }
    )


def _make(values: Mapping[str, float]) -> Method:
    return Method("noise", _WHAT, partial(_loss, values["sigma"]), values)


NOISE = Recipe(
    "noise",
    _WHAT,
    {"sigma": Knob(0.05, 0.005, 0.2, True, "standard deviation in units of max|W|")},
    _make,
)


def _drawn_loss(step: Step) -> Float[Tensor, ""]:
    return step.loss(step.drawn())


def _make_drawn(values: Mapping[str, float]) -> Method:
    return Method("device-noise", _DRAWN, _drawn_loss, values)


DEVICE_NOISE = Recipe("device-noise", _DRAWN, {}, _make_drawn)
