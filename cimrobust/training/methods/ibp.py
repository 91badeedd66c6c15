"""Training on the interval bound over the tolerance box.

The one way seen so far to a proof at the published tolerances. Alone, and together with A-TRICE.

References:
    Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
    Models", 2018, arXiv 1810.12715: the loss and its curriculum; there inputs deviate,
    here weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cimrobust.training.interval_bound import clean_and_worst_loss, worst_loss
from cimrobust.training.methods.a_trice_projected import chained_loss
from cimrobust.training.methods.trice import CENSORING, SIGMA
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_WHAT = "interval bound over the tolerance box, growing with the training"
_MIXED = "interval bound over the tolerance box, and A-TRICE (chained)"

KNOBS = {
    "ramp": Knob(
        0.6, 0.1, 0.9, False, "share of the training after which the box has its full size"
    ),
    "share": Knob(0.8, 0.2, 1.0, False, "share of the bound in the loss at the end"),
    "reach": Knob(1.0, 0.3, 1.3, False, "size of the box at the end"),
    "range": Knob(
        2.0, 1.2, 3.0, False, "largest weight in standard deviations of its tensor; 0: not limited"
    ),
}


def growth(progress: float, ramp: float) -> float:
    """Return the share of its final size that a growing box has."""
    return min(1.0, progress / ramp) if ramp > 0 else 1.0


def _loss(values: Mapping[str, float], step: Step) -> Float[Tensor, ""]:
    grown = growth(step.progress, values["ramp"])
    share = values["share"] * grown
    size = values["reach"] * grown
    if share == 1.0:
        return worst_loss(step, size)
    clean, worst = clean_and_worst_loss(step, size)
    return share * worst + (1.0 - share) * clean


def _mixed(values: Mapping[str, float], step: Step) -> Float[Tensor, ""]:
    grown = growth(step.progress, values["ramp"])
    share = values["share"] * grown
    return share * worst_loss(step, values["reach"] * grown) + (1.0 - share) * chained_loss(
        values["sigma"], values["censoring"], step
    )


def _make(
    name: str,
    what: str,
    loss: Callable[[Mapping[str, float], Step], Float[Tensor, ""]],
    values: Mapping[str, float],
) -> Method:
    return Method(
        name,
        what,
        partial(loss, dict(values)),
        values,
        proves=True,
        ready=values["ramp"],
    )


IBP = Recipe("ibp", _WHAT, KNOBS, partial(_make, "ibp", _WHAT, _loss))
IBP_A_TRICE = Recipe(
    "ibp-a-trice",
    _MIXED,
    {**KNOBS, "sigma": SIGMA, "censoring": CENSORING},
    partial(_make, "ibp-a-trice", _MIXED, _mixed),
)
