"""TRICE: right-censored Gaussian noise on every weight, fresh in every mini-batch.

The noise is not centred, so the network that withstands it is not that of the weights W that were
moved but that of W plus the mean of the noise: that one is scored and written (``mean`` is the
share of the mean that is added). ``trice-search`` searches for the scale of the noise while it
trains, as the authors do.

Two things are not as in the authors' scripts. They choose the epoch by the accuracy under drawn
noise on the *test* set; here it is chosen on the validation split, by what is attacked, like the
epoch of every other method. And the scripts of TRICE refresh the batch normalisations without
noise where those of A-TRICE add the mean; normalisations are frozen here, and the mean is added.

References:
    Yan, Qin, Wen, Hu, Shi, "Improving Realistic Worst-Case Performance of NVCiM DNN Accelerators
    through Training with Right-Censored Gaussian Noise", ICCAD 2023, arXiv 2307.15853; and the
    authors' public code, re-implemented from its description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.training.training_protocol import Knob, Method, Recipe, SigmaSearch, Step

_WHAT = "TRICE: right-censored Gaussian noise on the weights, its mean deployed"
_SEARCH = "TRICE with the authors' search for the scale of the noise: three copies, every epoch"

SIGMA = Knob(0.05, 0.005, 0.2, True, "scale of the noise in units of max|W|")
CENSORING = Knob(
    1.0, 0.3, 2.5, False, "point at which the noise is censored, in units of its scale"
)
MEAN = Knob(
    1.0, 0.0, 1.0, False, "share of the mean of the noise that is added to the deployed weights"
)


def censored_noise(step: Step, sigma: float, censoring: float) -> dict[str, Float[Tensor, "..."]]:
    """Return ``max|W| sigma min(z, c)``, z standard normal, for every weight.

    All of the tail above c is piled up at c.
    """
    return {
        name: (chip.reach * sigma) * step.normal(chip.nominal).clamp_(max=censoring)
        for name, chip in step.chips.items()
    }


def constant_noise(step: Step, values: Mapping[str, float]) -> dict[str, Float[Tensor, "..."]]:
    """Return censored noise that is drawn before the pass, as the authors' is: no gradient."""
    with torch.no_grad():
        return {
            name: step.normal(chip.nominal)
            .clamp_(max=values["censoring"])
            .mul_(chip.reach * values["sigma"])
            for name, chip in step.chips.items()
        }


def censored_mean(censoring: float) -> float:
    """Return the mean of ``min(z, c)``: ``-phi(c) + c (1 - Phi(c))``."""
    density = math.exp(-0.5 * censoring**2) / math.sqrt(2.0 * math.pi)
    return -density + censoring * 0.5 * math.erfc(censoring / math.sqrt(2.0))


def deployed_mean(values: Mapping[str, float]) -> float:
    """Return what is added to the deployed weights, in units of max|W|."""
    return values["mean"] * values["sigma"] * censored_mean(values["censoring"])


def noisy_loss(values: Mapping[str, float], step: Step) -> Float[Tensor, ""]:
    """Return the loss of a chip with fresh censored noise."""
    return step.loss(constant_noise(step, values))


def _make(values: Mapping[str, float]) -> Method:
    return Method(
        "trice",
        _WHAT,
        partial(noisy_loss, dict(values)),
        values,
        deployed_mean=deployed_mean(values),
    )


def _make_search(values: Mapping[str, float]) -> Method:
    def at(sigma: float) -> Method:
        return replace(_make({**values, "sigma": sigma}), name="trice-search", what=_SEARCH)

    low, high = sorted((values["lowest"], values["highest"]))
    search = SigmaSearch(low, high, values["quantile"], round(values["runs"]), at)
    return replace(at(0.5 * (low + high)), knobs=values, search=search)


TRICE = Recipe("trice", _WHAT, {"sigma": SIGMA, "censoring": CENSORING, "mean": MEAN}, _make)
TRICE_SEARCH = Recipe(
    "trice-search",
    _SEARCH,
    {
        "lowest": Knob(0.0, 0.0, 0.02, False, "smallest scale of the noise, in units of max|W|"),
        "highest": Knob(0.1, 0.05, 0.3, False, "largest scale"),
        "quantile": Knob(
            0.01, 0.0001, 0.5, True, "quantile of drawn chips that the copies are compared by"
        ),
        "runs": Knob(50.0, 20.0, 200.0, True, "chips drawn for it, from the device profile"),
        "censoring": CENSORING,
        "mean": MEAN,
    },
    _make_search,
)
