"""Intervals, forwards.

Every operator gets one from those of its inputs, narrowed by backward passes where that pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Int8, Shaped
from torch import Tensor

from cimrobust.certify.backward import State
from cimrobust.certify.interval import Interval
from cimrobust.certify.narrow import narrow, narrow_contest
from cimrobust.certify.plan import ACTIVE, Plan
from cimrobust.certify.rules.max_pool import MaxPool
from cimrobust.certify.rules.rule import Bent, Value

#: Share of the effort that goes into narrowing contests in front of a maximum, and where only one
#: product with weights is in front of it: those gain least.
_CONTEST, _FIRST_CONTEST = 0.5, 0.06


@torch.no_grad()
def propagate(
    plan: Plan,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    weights: Mapping[str, Interval],
    *,
    effort: float,
    known: Mapping[str, Interval] | None = None,
    signs: Mapping[str, Int8[Tensor, "samples ..."]] | None = None,
) -> State:
    """Bound every tensor.

    Args:
        plan: The network.
        inputs: Samples, float64 where they are floating point, first axis samples.
        constants: Graph inputs that are the same for all samples.
        weights: Box of every stored weight.
        effort: Multiplications a sample that narrowing the intervals in front of an activation
            function by backward passes may cost; 0: none are narrowed.
        known: Intervals that are known already, by tensor.
        signs: Chips looked at, int8 [samples, ...] by tensor: 1 only those on which an element is
            not negative, -1 only those on which it is not positive, 0 all.
    """
    count = len(next(iter(inputs.values())))
    values: dict[str, Value] = {**plan.constants, **constants, **weights}
    values |= {
        name: Interval.point(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
    }
    state = State(plan, values, count)
    for index, step in enumerate(plan.steps):
        if step.rule is None:
            read = state.inputs_of(step)
            values[step.output] = step.step.kernel(
                *[value.lo if isinstance(value, Interval) else value for value in read]
            )
            continue
        if effort and step.kind == ACTIVE and step.depth > 1 and isinstance(step.rule, Bent):
            narrow(state, index, step.rule, effort)
        if effort and step.kind == ACTIVE and isinstance(step.rule, MaxPool):
            narrow_contest(state, index, effort * (_CONTEST if step.depth > 1 else _FIRST_CONTEST))
        made = step.rule.forward(state.inputs_of(step))
        # Corners are about forms of one sign on an element, which a second reader could mix up.
        made = made if step.output in plan.read_once else replace(made, corners=None)
        if known is not None and step.output in known:
            made = made.within(known[step.output])
        if signs is not None and step.output in signs:
            made = made.of_sign(signs[step.output])
        values[step.output] = made
    return state
