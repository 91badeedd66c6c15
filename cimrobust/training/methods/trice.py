"""TRICE: right-censored Gaussian noise on every weight, fresh in every mini-batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_WHAT = "TRICE: right-censored Gaussian noise on the weights"

SIGMA = Knob(0.05, 0.005, 0.2, True, "scale of the noise in units of max|W|")
CENSORING = Knob(
    1.0, 0.3, 2.5, False, "point at which the noise is censored, in units of its scale"
)


def censored_noise(step: Step, sigma: float, censoring: float) -> dict[str, Tensor]:
    """Return ``max|W| sigma min(z, c)``, z standard normal, for every weight.

    All of the tail above c is piled up at c.

    References:
        Yan, Qin, Wen, Hu, Shi, "Improving Realistic Worst-Case Performance of NVCiM DNN
        Accelerators through Training with Right-Censored Gaussian Noise",
        ICCAD 2023, arXiv 2307.15853.
    """
    return {
        name: chip.reach * sigma * torch.clamp(step.normal(chip.nominal), max=censoring)
        for name, chip in step.chips.items()
    }


def censored_mean(censoring: float) -> float:
    """Return the mean of ``min(z, c)``: ``-phi(c) + c (1 - Phi(c))``."""
    density = math.exp(-0.5 * censoring**2) / math.sqrt(2.0 * math.pi)
    return -density + censoring * 0.5 * math.erfc(censoring / math.sqrt(2.0))


def _loss(sigma: float, censoring: float, step: Step) -> Tensor:
    return step.loss(censored_noise(step, sigma, censoring))


def _make(values: Mapping[str, float]) -> Method:
    return Method("trice", _WHAT, partial(_loss, values["sigma"], values["censoring"]), values)


TRICE = Recipe("trice", _WHAT, {"sigma": SIGMA, "censoring": CENSORING}, _make)
