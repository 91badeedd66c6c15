"""Adversarial training in weight space.

A fresh attack on every mini-batch, descent on the loss of the attacked chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxtyping import Float
from torch import Tensor

from cimrobust.training.ascent import ascend, deviation_of, zero_unit
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

_WHAT = "adversarial training: sign steps in the tolerance box, fresh in every mini-batch"

PASSES = Knob(2, 1, 4, False, "steps of the attack")
CLEAN = Knob(0.2, 0.0, 0.6, False, "share of the loss without deviation")


def _loss(passes: int, clean: float, step: Step) -> Float[Tensor, ""]:
    attacked = ascend(
        step.fixed(), zero_unit(step), passes=passes, length=1.0 if passes == 1 else 2.0 / passes
    )
    loss = (1.0 - clean) * step.loss(deviation_of(step, attacked))
    return loss + clean * step.loss() if clean else loss


def _make(values: Mapping[str, float]) -> Method:
    return Method(
        "adversarial", _WHAT, partial(_loss, round(values["passes"]), values["clean"]), values
    )


ADVERSARIAL = Recipe("adversarial", _WHAT, {"passes": PASSES, "clean": CLEAN}, _make)
