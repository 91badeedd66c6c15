"""Intervals forwards, linear forms backwards.

Forwards every operator gets an interval from those of its inputs. Backwards a linear form on a tensor is rewritten, operator by operator, as a linear form on
earlier tensors that is never larger, until it rests on the inputs, which are known (Zhang et al., Efficient Neural Network Robustness Certification with General
Activation Functions, 2018; Xu et al., LiRPA, 2020, for graphs; here the weights are uncertain and the inputs are not). At every tensor that all of the form rests
on, its interval gives a bound as well, and the largest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.plan import ACTIVE, KNOWN, Plan, PlannedStep
from cimrobust.certify.rules.base import Value, total

#: Values of one backward pass over a batch; bounds its memory to a few times this in bytes times 8.
_MOST_VALUES = 2**24


@dataclass
class State:
    """Values of all tensors for one batch of samples and one box.

    Attributes:
        plan: The network.
        values: Intervals of activations and weights, and tensors that are known, by name.
        num_samples: Samples of the batch.
    """

    plan: Plan
    values: dict[str, Value]
    num_samples: int

    def inputs_of(self, step: PlannedStep) -> list[Value]:
        """Return the values that an operator reads."""
        return [self.values[name] if name else None for name in step.node.inputs]

    def interval(self, name: str) -> Interval:
        """Return the interval of an activation."""
        value = self.values[name]
        assert isinstance(value, Interval)
        return value


@torch.no_grad()
def propagate(
    plan: Plan,
    inputs: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
    weights: Mapping[str, Interval],
    *,
    refine: bool,
    effort: float = math.inf,
) -> State:
    """Bound every tensor.

    Args:
        plan: The network.
        inputs: Samples, float64 where they are floating point, first axis samples.
        constants: Graph inputs that are the same for all samples.
        weights: Box of every stored weight.
        refine: Narrow the intervals in front of bent activation functions by backward passes.
        effort: Multiplications that narrowing one layer may cost a sample; layers that would cost more keep their intervals.
    """
    count = len(next(iter(inputs.values())))
    values: dict[str, Value] = {**plan.constants, **constants, **weights}
    values |= {name: Interval.point(tensor) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    state = State(plan, values, count)
    for index, step in enumerate(plan.steps):
        read = state.inputs_of(step)
        if step.rule is None:
            values[step.output] = step.step.kernel(*[value.lo if isinstance(value, Interval) else value for value in read])
            continue
        if refine and step.kind == ACTIVE and step.depth > 1 and hasattr(step.rule, "bends"):
            _refine(state, index, effort)
            read = state.inputs_of(step)
        values[step.output] = step.rule.forward(read)
    return state


def _refine(state: State, index: int, effort: float) -> None:
    """Narrow the interval of the input of a step at its bent units."""
    step = state.plan.steps[index]
    name = step.node.inputs[0]
    before = state.interval(name)
    bent = step.rule.bends(before.lo, before.hi).flatten(1)  # type: ignore[union-attr]
    most = int(bent.sum(1).max())
    if most == 0 or most * form_cost(state, index) > effort:
        return
    # Every sample's bent units come first; units behind them that another sample's count asks for are narrowed as well.
    units = bent.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
    lo, hi = before.lo.flatten(1).clone(), before.hi.flatten(1).clone()
    size = forms_at_once(state)
    for start in range(0, most, size):
        some = units[:, start : start + size]
        form = torch.zeros(some.shape[1], state.num_samples, lo.shape[1], dtype=lo.dtype)
        form.scatter_(2, some.T[..., None], 1.0)
        form = form.reshape(some.shape[1], *before.lo.shape)
        least = lower_bound(state, name, form, steps=index)
        most_of = -lower_bound(state, name, -form, steps=index)
        lo.scatter_(1, some, torch.maximum(lo.gather(1, some), least.T))
        hi.scatter_(1, some, torch.minimum(hi.gather(1, some), most_of.T))
    state.values[name] = before.within(lo.reshape(before.lo.shape), hi.reshape(before.hi.shape))


def form_cost(state: State, steps: int | None = None) -> int:
    """Return the multiplications that a form on the tensor behind the first so many steps costs a sample, about."""
    cost = 0
    for step in state.plan.steps[:steps]:
        weight = state.values.get(step.node.inputs[1]) if step.node.op in ("Conv", "Gemm", "MatMul") else None
        if weight is not None and step.kind == ACTIVE:
            numel = weight.lo.numel() if isinstance(weight, Interval) else weight.numel()
            made = state.interval(step.output).lo
            positions = made[0, 0].numel() if step.node.op == "Conv" else made[0].numel() // made.shape[-1]
            cost += 4 * numel * positions
    return cost


def forms_at_once(state: State) -> int:
    """Return how many forms a backward pass takes at once, from the largest tensor on its way."""
    largest = 1
    for step in state.plan.steps:
        value = state.values.get(step.output)
        if step.kind == ACTIVE and isinstance(value, Interval):
            largest = max(largest, value.lo[0].numel())
            weight = state.values.get(step.node.inputs[1]) if step.node.op == "Conv" else None
            if isinstance(weight, Interval):
                largest = max(largest, weight.lo.numel(), weight.lo[0].numel() * value.lo[0, 0].numel())
    return max(1, _MOST_VALUES // (largest * state.num_samples))


@torch.no_grad()
def lower_bound(state: State, tensor: str, form: Tensor, *, steps: int | None = None) -> Tensor:
    """Return a lower bound of linear forms on a tensor, for every chip of the box.

    Args:
        state: All intervals.
        tensor: Name of the tensor.
        form: Coefficients, [forms, samples, ...] in the tensor's shape.
        steps: The first so many steps make the tensor; None: all.

    Returns:
        [forms, samples].
    """
    forms: dict[str, Tensor] = {tensor: form}
    constant = torch.zeros(form.shape[:2], dtype=form.dtype)
    best = torch.full_like(constant, -math.inf)
    for step in reversed(state.plan.steps[:steps]):
        current = forms.pop(step.output, None)
        if current is None or step.kind == KNOWN:
            continue
        here = state.interval(step.output)
        resting = _at_worst(current, here)
        if not forms:
            best = torch.maximum(best, constant + resting)
        if here.is_point:
            constant = constant + resting
            continue
        if here.rounding is not None:
            constant = constant - total(current.abs(), here.rounding)
        assert step.rule is not None
        pulled = step.rule.backward(current, state.inputs_of(step), here)
        constant = constant + pulled.constant
        for name, part in zip(step.node.inputs, pulled.coefs, strict=True):
            if part is not None:
                forms[name] = forms[name] + part if name in forms else part
    for name, part in forms.items():
        constant = constant + _at_worst(part, state.interval(name))
    # A bound that is no number proves nothing.
    return torch.nan_to_num(torch.maximum(best, constant), nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def _at_worst(form: Tensor, interval: Interval) -> Tensor:
    """Return the smallest value of a form over an interval."""
    if interval.is_point:
        return total(form, interval.lo)
    return total(form, interval.middle) - total(form.abs(), interval.radius)
