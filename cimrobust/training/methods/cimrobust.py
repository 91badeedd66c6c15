"""Our own method.

A strong attack carried from batch to batch, in a box that grows, on weights that are kept within a
narrow range.

What breaks a network is the box, and the box is a share of the largest weight of a tensor. So the
largest weights are clipped, which costs little and shrinks every interval. The attack
starts from the point that the last batches led to (it is one chip for all data, so what broke one
batch breaks the next), as perturbations are kept in "free" adversarial training of inputs
(Shafahi et al., NeurIPS 2019, arXiv 1904.12843), and takes a few sign steps more. The box grows
with the training; a part of the loss is that of the network without deviation, a larger one after
epochs that lost too much clean accuracy; the running mean of the weights is kept (Izmailov et al.,
UAI 2018, arXiv 1803.05407, there of the last epochs). With the setting `distil` every loss follows
the scores of the network before training in place of the labels that it has right (see
`network_teacher`).
Where the interval bound of the network is tight, a part of the loss is that bound (De Palma et
al., ICLR 2024, arXiv 2305.13991, for inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.errors import UsageError
from cimrobust.training.ascent import Unit, ascend, deviation_of
from cimrobust.training.interval_bound import clean_and_worst_loss, worst_loss
from cimrobust.training.methods.ibp import growth
from cimrobust.training.training_protocol import Knob, Method, Recipe, Step

# Dividing by less would leave float32; with nothing to draw again no weight is.
_SMALLEST_REST = 1e-6
#: The bound costs more clean accuracy than the attack, so its share falls with a power of what is
#: left to chips.
_BOUND_POWER = 4
_WHAT = (
    "carried multi-step attack in a growing box, narrow weights, averaged weights, the interval"
    " bound where it is tight"
)


def _loss(values: Mapping[str, float], step: Step) -> Float[Tensor, ""]:
    grown = growth(step.progress, values["ramp"])
    size = values["reach"] * (values["start"] + (1.0 - values["start"]) * grown)
    start = _carried(step, values["keep"])
    attacked = ascend(
        step.fixed(), start, passes=round(values["passes"]), length=values["length"], size=size
    )
    step.memory.update(attacked)
    clean = values["clean"] + (1.0 - step.held) * (1.0 - values["clean"])
    loss = (1.0 - clean) * step.loss(deviation_of(step, attacked, size))
    share = step.held**_BOUND_POWER * step.bound_share * grown
    if share and clean:
        plain, worst = clean_and_worst_loss(step, size)
        return (1.0 - share) * (loss + clean * plain) + share * worst
    loss = loss + clean * step.loss() if clean else loss
    return (1.0 - share) * loss + share * worst_loss(step, size) if share else loss


def _carried(step: Step, keep: float) -> Unit:
    """Return where the last mini-batch led to, a share of the weights drawn again.

    One uniform number a weight tells both: below `keep` the weight stays, and what is above it is
    uniform again.
    """
    found: Unit = {}
    for name, chip in step.chips.items():
        drawn = step.uniform(chip.nominal)
        if name not in step.memory:
            found[name] = drawn.mul_(2.0).sub_(1.0)
            continue
        # Steps of 0 and 1 from one to the other: to choose element by element takes ten times as
        # long, and so does a comparison that makes truth values.
        kept = torch.lt(drawn, keep, out=torch.empty_like(drawn))
        rest = max(1.0 - keep, _SMALLEST_REST)
        fresh = drawn.sub_(keep).mul_(2.0 / rest).sub_(1.0)
        found[name] = fresh.lerp_(step.memory[name], kept)
    return found


def _make(values: Mapping[str, float]) -> Method:
    if not 0.0 < values["hold"] <= 1.0:
        raise UsageError(
            "setting 'hold' of method cimrobust must be above 0 and at most 1, got"
            f" {values['hold']:g} (--set); 1 leaves the share of the clean loss as it is"
        )
    if not 0.0 <= values["distil"] <= 1.0:
        raise UsageError(
            "setting 'distil' of method cimrobust must be in [0, 1], got"
            f" {values['distil']:g} (--set); 0 leaves the network before training without a say"
        )
    if not values["temperature"] > 0.0:
        raise UsageError(
            "setting 'temperature' of method cimrobust must be positive, got"
            f" {values['temperature']:g} (--set); 1 takes scores as they are"
        )
    return Method(
        "cimrobust",
        _WHAT,
        partial(_loss, dict(values)),
        values,
        averaging=values["averaging"],
        bound_share=values["bound"],
        tight=values["tight"],
        hold=values["hold"],
        taught_share=values["distil"],
        temperature=values["temperature"],
        ready=values["ramp"],
    )


CIMROBUST = Recipe(
    "cimrobust",
    _WHAT,
    {
        "passes": Knob(2, 1, 4, False, "steps of the attack"),
        "length": Knob(1.0, 0.3, 2.0, False, "length of a step in half-widths"),
        "keep": Knob(
            0.5,
            0.0,
            1.0,
            False,
            "share of the weights at which the attack goes on from the last mini-batch",
        ),
        "clean": Knob(0.2, 0.0, 0.6, False, "share of the loss without deviation"),
        "hold": Knob(
            0.7,
            0.3,
            1.0,
            False,
            "factor of the loss of chips after every epoch that lost more clean accuracy than"
            " allowed; 1: none",
        ),
        "distil": Knob(
            0.0,
            0.0,
            1.0,
            False,
            "share of the loss that follows the scores of the network before training, where that"
            " is right; 0: none",
        ),
        "temperature": Knob(
            2.0,
            1.0,
            8.0,
            True,
            "what scores are divided by where those before training are followed",
        ),
        "start": Knob(0.2, 0.0, 1.0, False, "size of the box at the start"),
        "ramp": Knob(
            0.5, 0.0, 0.9, False, "share of the training at which the box has its full size"
        ),
        "reach": Knob(1.0, 0.5, 1.5, False, "size of the box at the end"),
        "averaging": Knob(0.98, 0.0, 0.999, False, "decay of the running mean of the weights"),
        "range": Knob(
            2.0,
            0.0,
            3.0,
            False,
            "largest weight in standard deviations of its tensor; 0: not limited",
        ),
        "bound": Knob(
            0.2,
            0.0,
            0.6,
            False,
            "share of the interval bound in the loss, where it is tight; 0: none",
        ),
        "tight": Knob(
            10.0,
            5.0,
            20.0,
            True,
            "most that the bound of the loss may be, in attacked losses before training, to count"
            " as tight",
        ),
    },
    _make,
)
