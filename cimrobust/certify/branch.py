"""Branching: chips are split by the sign of one ReLU's input, and each half is bounded alone.

Without bent ReLUs the linear bounds of a network of matrix products are exact, so few splits often
close the gap. The unit that is split is the one whose lines leave most between them, weighted with
the form on it.

Sound, because the halves z >= 0 and z <= 0 hold every chip between them: what exceeds the needed
margin on all parts does so on the whole box. Which unit is split decides about time alone.

References:
    R. Bunel, J. Lu, I. Turkaslan, P. H. S. Torr, P. Kohli, M. P. Kumar, "Branch and bound for
    piecewise linear neural network verification", JMLR 21, 2020 (for inputs as boxes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float64, Int8, Int64, Shaped
from torch import Tensor

from cimrobust.certify.backward import State, form_cost
from cimrobust.certify.interval import Interval, flat
from cimrobust.certify.propagate import propagate
from cimrobust.certify.rules.relaxation import Activation
from cimrobust.certify.tighten import bent_steps, tightened

if TYPE_CHECKING:
    from cimrobust.certify.plan import Plan

#: Parts that are bounded together.
_PARTS = 64
# What is missing has to shrink at least at this share of the pace at which it would vanish at the
# greatest depth; else a form is given up.
_PACE = 0.5


@dataclass(frozen=True)
class BranchSettings:
    """How far branching goes.

    Attributes:
        most_parts: Parts that the chips are split into for one form on one sample.
        passes: Backward passes with gradients for every part.
        effort: Multiplications that narrowing one layer may cost a part.
        most_cost: Networks on which a form costs more multiplications are not branched on: they
            have so many bent units that it does not pay.
    """

    most_parts: int = 64
    passes: int = 4
    effort: float = 3e7
    most_cost: float = 2e6


@dataclass(frozen=True)
class _Parts:
    """Parts of the box, all of one depth.

    Attributes:
        task: Which task a part belongs to [parts].
        signs: Int8 [parts, ...] by tensor.
    """

    task: Int64[Tensor, "parts"]
    signs: dict[str, Int8[Tensor, "parts ..."]]


def prove(
    state: State,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    weights: Mapping[str, Interval],
    *,
    tensor: str,
    form: Float64[Tensor, "tasks *units"],
    samples: Int64[Tensor, "tasks"],
    needed: Float64[Tensor, "tasks"],
    settings: BranchSettings,
) -> Bool[Tensor, "tasks"]:
    """Return which linear forms are greater than what is needed on every chip of the box.

    Args:
        state: Intervals of the whole box.
        inputs: Samples by graph input.
        constants: As for `propagate`.
        weights: As for `propagate`.
        tensor: What the forms are on.
        form: One form a task, [tasks, ...].
        samples: Sample of every task [tasks].
        needed: What has to be exceeded [tasks].
        settings: How far to go.

    Returns:
        Bool [tasks]; a task that is given up is not proven.
    """
    if not bent_steps(state) or form_cost(state) > settings.most_cost:
        return torch.zeros(len(samples), dtype=torch.bool)
    given_up = torch.zeros(len(samples), dtype=torch.bool)
    first = torch.full((len(samples),), -math.inf, dtype=torch.float64)
    parts = _Parts(torch.arange(len(samples)), _no_signs(state, len(samples)))
    depth, deepest = 0, int(math.log2(settings.most_parts))
    while len(parts.task):
        bound, choice = _bounded(
            state.plan, state, inputs, constants, weights, tensor, form, samples, parts, settings
        )
        short = needed[parts.task] - bound
        is_open = short >= 0
        worst = torch.full_like(first, -math.inf).scatter_reduce(0, parts.task, short, "amax")
        if depth == 0:
            first = worst
        slow = (
            worst > first * (1.0 - _PACE * depth / deepest) if depth else torch.zeros_like(given_up)
        )
        stuck = torch.zeros_like(given_up).scatter_reduce(
            0, parts.task, (is_open & (choice < 0)).to(torch.bool), "amax"
        )
        given_up |= (worst >= 0) & (slow | stuck | (depth >= deepest))
        left = is_open & ~given_up[parts.task]
        parts, depth = _split(parts, left, choice), depth + 1
    return ~given_up


def _no_signs(state: State, count: int) -> dict[str, Int8[Tensor, "parts ..."]]:
    return {
        step.node.inputs[0]: torch.zeros(
            count, *state.interval(step.node.inputs[0]).lo.shape[1:], dtype=torch.int8
        )
        for step in bent_steps(state)
    }


def _bounded(
    plan: Plan,
    root: State,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    weights: Mapping[str, Interval],
    tensor: str,
    form: Float64[Tensor, "tasks *units"],
    samples: Int64[Tensor, "tasks"],
    parts: _Parts,
    settings: BranchSettings,
) -> tuple[Float64[Tensor, "parts"], Int64[Tensor, "parts"]]:
    """Return the bounds of parts, and the unit to split next.

    Its place among all units in the order of `signs`; -1: there is none.
    """
    bounds, choices = [], []
    for start in range(0, len(parts.task), _PARTS):
        task = parts.task[start : start + _PARTS]
        sample = samples[task]
        signs = {name: sign[start : start + _PARTS] for name, sign in parts.signs.items()}
        known = {name: root.interval(name).part(sample) for name in signs}
        state = propagate(
            plan,
            {name: value[sample] for name, value in inputs.items()},
            constants,
            weights,
            effort=settings.effort,
            known=known,
            signs=signs,
        )
        found = tightened(state, tensor, form[task][None], passes=settings.passes, signs=signs)
        bounds.append(found.bound[0])
        choices.append(_choose(state, found.forms, signs))
    return torch.cat(bounds), torch.cat(choices)


def _choose(
    state: State,
    forms: Mapping[str, Float64[Tensor, "1 parts ..."]],
    signs: Mapping[str, Int8[Tensor, "parts ..."]],
) -> Int64[Tensor, "parts"]:
    scores = []
    for step in bent_steps(state):
        name = step.node.inputs[0]
        data = state.interval(name)
        assert isinstance(step.rule, Activation)
        form = forms.get(step.output)
        if form is None:
            scores.append(flat(torch.zeros_like(data.lo)))
            continue
        (low, to), (since, high) = data.lower_side(), data.upper_side()
        # What the lines leave at most. Above at 0, where the chord through (l, 0) and (u, u) is
        # -l u / (u - l); below at an end, where the line of the smaller area leaves min(-l, u).
        below = torch.minimum((-low).clamp(min=0), to.clamp(min=0))
        above = (-since).clamp(min=0) * high.clamp(min=0) / (high - since).clamp(min=1e-250)
        gap = form[0].clamp(min=0) * below - form[0].clamp(max=0) * above
        splittable = (data.lo < 0) & (data.hi > 0) & (signs[name] == 0)
        scores.append(flat(torch.where(splittable, gap, torch.zeros_like(gap))))
    best, place = torch.cat(scores, dim=1).max(dim=1)
    return torch.where(best > 0, place, -1)


def _split(parts: _Parts, left: Bool[Tensor, "parts"], choice: Int64[Tensor, "parts"]) -> _Parts:
    """Return both halves of the parts that are left."""
    task = parts.task[left].repeat(2)
    place, rows = choice[left], torch.arange(int(left.sum()))
    signs, offset = {}, 0
    for name, sign in parts.signs.items():
        units = flat(sign[left])
        own = (place >= offset) & (place < offset + units.shape[1])
        halves = []
        for side in (1, -1):
            half = units.clone()
            half[rows[own], (place - offset)[own]] = side
            halves.append(half)
        signs[name] = torch.cat(halves).reshape(-1, *sign.shape[1:])
        offset += units.shape[1]
    return _Parts(task, signs)
