"""Intervals narrowed by backward passes, where an operator behind them gains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from cimrobust.certify.backward import Options, State, form_cost, forms_at_once, lower_bound
from cimrobust.certify.interval import Interval, flat
from cimrobust.certify.rules.max_pool import MaxPool

if TYPE_CHECKING:
    from cimrobust.certify.rules.rule import Bent

#: Multiplications a sample that narrowing a whole layer may cost without being asked what for.
_CHEAP = 1e7


def narrow(state: State, index: int, rule: Bent, effort: float) -> None:
    """Narrow the interval of the input of a step at its bent units."""
    step = state.plan.steps[index]
    name = step.node.inputs[0]
    before = state.interval(name)
    bent = flat(rule.bends(before))
    cost = form_cost(state, index)
    # Straight units need no narrowing themselves, but the layers behind them gain; where that costs
    # next to nothing all are narrowed.
    wanted = (
        bent.shape[1]
        if bent.shape[1] * cost <= _CHEAP and bool(bent.any())
        else int(bent.sum(1).max())
    )
    most = min(wanted, int(min(effort / cost, 2**31)))
    if most == 0:
        return
    units = _widest(before, bent, most)
    lower, upper = (
        _narrowed(state, index, units, before.lo, 1, 0),
        _narrowed(state, index, units, before.hi, -1, 0),
    )
    after = before.within(Interval(lower, upper))
    product = state.plan.product_behind.get(name, "")
    if before.corners is not None and _is_nonnegative_product(state, product):
        # The weights of the product at one corner, and the other end of what is then left.
        corners = (
            _narrowed(state, index, units, before.corners[0], -1, -1),
            _narrowed(state, index, units, before.corners[1], 1, 1),
        )
        after = replace(after, corners=corners)
    state.values[name] = after


def _widest(
    data: Interval, bent: Bool[Tensor, "samples units"], count: int
) -> Int64[Tensor, "samples count"]:
    """Return units of every sample [samples, count].

    The bent ones whose function is furthest from a line, or any others where there are fewer.

    All channels of a position come together, so that forms at once rest on little of a plane.
    """
    lo, hi = flat(data.lo), flat(data.hi)
    gap = torch.where((lo < 0) & (hi > 0), -lo * (hi / (hi - lo).clamp(min=1e-250)), hi - lo)
    units = torch.where(bent, gap, -1.0).topk(count, dim=1).indices
    places = math.prod(data.lo.shape[2:])
    by_place = units % places * math.prod(data.lo.shape[1:2]) + units // places
    return units.gather(1, by_place.argsort(dim=1))


def _narrowed(
    state: State,
    index: int,
    units: Int64[Tensor, "samples count"],
    ends: Float64[Tensor, "samples *units"],
    sign: int,
    corner: int,
) -> Float64[Tensor, "samples *units"]:
    """Return ends of the input of a step, better at some units.

    Lower ends for sign 1, upper ones for -1.
    """
    name = state.plan.steps[index].node.inputs[0]
    options = Options(corner=(state.plan.product_behind[name], corner) if corner else ("", 0))
    best = flat(ends).clone()
    size = forms_at_once(state)
    for start in range(0, units.shape[1], size):
        some = units[:, start : start + size]
        form = torch.zeros(some.shape[1], state.num_samples, best.shape[1], dtype=best.dtype)
        form.scatter_(2, some.T[..., None], float(sign))
        bound = (
            sign
            * lower_bound(
                state, name, form.reshape(some.shape[1], *ends.shape), steps=index, options=options
            ).T
        )
        choose = torch.maximum if sign > 0 else torch.minimum
        best.scatter_(1, some, choose(best.gather(1, some), bound))
    return best.reshape(ends.shape)


def _is_nonnegative_product(state: State, output: str) -> bool:
    for step in state.plan.steps:
        if step.output == output:
            data = state.values[step.node.inputs[0]]
            return isinstance(data, Interval) and data.is_nonnegative and not data.is_point
    return False


def narrow_contest(state: State, index: int, effort: float) -> None:
    """Narrow by how much elements of windows may be above the reference of their window.

    Those that may be furthest above it come first.
    """
    step = state.plan.steps[index]
    rule, data = step.rule, state.interval(step.node.inputs[0])
    assert isinstance(rule, MaxPool)
    contest = rule.contest(data)
    most = contest.most.flatten(1)
    count = min(int((most > 0).sum(1).max()), int(min(effort / form_cost(state, index), 2**31)))
    if count == 0:
        return
    places = rule.places(data)
    own = (
        (contest.reference * places).sum(2, keepdim=True).expand_as(contest.most).long().flatten(1)
    )
    pairs = places.flatten().expand_as(own).clamp(min=0), own
    which = _in_order(most.topk(count, dim=1).indices, places)
    most = most.scatter(
        1,
        which,
        torch.minimum(most.gather(1, which), -_difference(state, index, pairs, which, -1.0)),
    )
    # Where an element cannot be above the reference nothing is asked of the other end.
    left = int((most.gather(1, which) > 0).sum(1).max())
    least = contest.least.flatten(1)
    if left:
        still = which.gather(1, most.gather(1, which).topk(left, dim=1).indices)
        still = _in_order(still, places)
        least = least.scatter(
            1,
            still,
            torch.maximum(least.gather(1, still), _difference(state, index, pairs, still, 1.0)),
        )
    # Both ends hold; where rounding makes them miss each other, they are one.
    least = torch.minimum(least, most)
    data.kept[rule] = replace(
        contest, least=least.reshape(contest.least.shape), most=most.reshape(contest.most.shape)
    )


def _in_order(
    which: Int64[Tensor, "samples count"], places: Int64[Tensor, "channels taps positions"]
) -> Int64[Tensor, "samples count"]:
    """Return elements of windows in the order of their windows in the plane.

    All channels of a window stay together.
    """
    taps, windows = places.shape[1:]
    channel, tap, window = which // (taps * windows), which // windows % taps, which % windows
    return which.gather(1, ((window * places.shape[0] + channel) * taps + tap).argsort(dim=1))


def _difference(
    state: State,
    index: int,
    pairs: tuple[Int64[Tensor, "samples elements"], Int64[Tensor, "samples elements"]],
    which: Int64[Tensor, "samples count"],
    sign: float,
) -> Float64[Tensor, "samples count"]:
    """Return lower bounds of the differences of pairs of elements, [samples, count].

    Of their negatives for sign -1.
    """
    name = state.plan.steps[index].node.inputs[0]
    shape = state.interval(name).lo.shape
    bounds = []
    size = forms_at_once(state)
    for start in range(0, which.shape[1], size):
        some = which[:, start : start + size]
        form = torch.zeros(
            some.shape[1], state.num_samples, math.prod(shape[1:]), dtype=torch.float64
        )
        for units, side in zip(pairs, (sign, -sign), strict=True):
            form.scatter_add_(
                2,
                units.gather(1, some).T[..., None],
                torch.full((*some.T.shape, 1), side, dtype=torch.float64),
            )
        bounds.append(lower_bound(state, name, form.reshape(some.shape[1], *shape), steps=index).T)
    return torch.cat(bounds, dim=1)
