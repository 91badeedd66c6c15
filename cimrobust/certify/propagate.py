"""Intervals, forwards.

Every operator gets one from those of its inputs, narrowed by backward passes where that pays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

import torch
from jaxtyping import Int8, Shaped
from torch import Tensor

from cimrobust.certify.backward import State
from cimrobust.certify.interval import Interval, flat
from cimrobust.certify.narrow import narrow, narrow_contest
from cimrobust.certify.rules.affine import Affine
from cimrobust.certify.rules.bilinear import Bilinear
from cimrobust.certify.rules.composed import Larger, Quotient
from cimrobust.certify.rules.convolution import Convolution
from cimrobust.certify.rules.max_pool import MaxPool
from cimrobust.certify.rules.piecewise import Clip, PRelu
from cimrobust.certify.rules.product import MatrixProduct
from cimrobust.certify.rules.relaxation import Activation
from cimrobust.certify.rules.rule import Bent, Rule, Value
from cimrobust.certify.tensor_kinds import ACTIVE

if TYPE_CHECKING:
    from cimrobust.certify.plan import Plan

#: Rules whose intervals are infinite where those of what they read are; and those of operators
#: that make each element of one of every input.
_CARRYING = (Affine, Bilinear, Convolution, MatrixProduct, Quotient)
_ELEMENTWISE = (Activation, Clip, Larger, PRelu)
#: Share of the effort that goes into narrowing contests in front of a maximum, and where only one
#: product with weights is in front of it: those gain least.
_CONTEST, _FIRST_CONTEST = 0.5, 0.06
# Arrays of a tensor that are held: ends, rounding, corners, middle; and while it is made.
_HELD, _AT_WORK = 6, 8


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
    forwards_only: bool = False,
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
        forwards_only: Nothing is propagated backwards later, so that every tensor is forgotten
            behind its last reader.
    """
    count = len(next(iter(inputs.values())))
    # What is worked out from the box of a weight lives as long as this one interval of it.
    boxes = {
        name: Interval(box.lo, box.hi) if forwards_only else box for name, box in weights.items()
    }
    values: dict[str, Value] = {**plan.constants, **constants, **boxes}
    del boxes
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
            del read
            if forwards_only:
                _forget(state, index)
            continue
        if effort and step.kind == ACTIVE and step.depth > 1 and isinstance(step.rule, Bent):
            narrow(state, index, step.rule, effort)
        if effort and step.kind == ACTIVE and isinstance(step.rule, MaxPool):
            narrow_contest(state, index, effort * (_CONTEST if step.depth > 1 else _FIRST_CONTEST))
        read = state.inputs_of(step)
        made = _behind_unknown(step.rule, read, step.rule.forward(read).known())
        del read
        # Corners are about forms of one sign on an element, which a second reader could mix up.
        made = made if step.output in plan.read_once else replace(made, corners=None)
        if known is not None and step.output in known:
            made = made.within(known[step.output])
        if signs is not None and step.output in signs:
            made = made.of_sign(signs[step.output])
        values[step.output] = made
        if forwards_only:
            _forget(state, index)
    return state


def _behind_unknown(rule: Rule, read: Sequence[Value], made: Interval) -> Interval:
    """Return what an operator makes, unknown where it reads what may be infinite or no number.

    Functions with a limited range, and comparisons, have ends whatever they read; the deployed ones
    make no number of none. Sums and products keep infinite ends.
    """
    places = [value.unknown for value in read if _is_unknown(value)]
    if not places or isinstance(rule, _CARRYING):
        return made
    for unknown in places:
        if not isinstance(rule, _ELEMENTWISE):
            of_sample = flat(unknown).any(1)
            unknown = of_sample.reshape(-1, *(1,) * (made.lo.dim() - 1))
        made = made.unknown_at(unknown.expand_as(made.lo))
    return made


def _is_unknown(value: Value) -> TypeGuard[Interval]:
    return isinstance(value, Interval) and not value.is_moderate and bool(value.unknown.any())


def _forget(state: State, index: int) -> None:
    """Leave out the tensors that no step behind this one reads."""
    for name in state.plan.last_reads[index]:
        state.values.pop(name, None)


def forwards_bytes(state: State, *, samples: int) -> int:
    """Return the bytes that bounding a batch forwards takes at its peak, about.

    Args:
        state: Of the same network, with any number of samples and all tensors.
        samples: Of the batch.
    """
    plan, made = state.plan, {step.output for step in state.plan.steps}
    sizes = {
        name: value.lo.numel() // (state.num_samples if name in made and value.lo.dim() else 1)
        for name, value in state.values.items()
        if isinstance(value, Interval)
    }
    boxes = sum(sizes[name] for name in plan.weight_names if name in sizes)
    held, most = 0, 0
    for index, step in enumerate(plan.steps):
        here = sizes.get(step.output, 0)
        held += here if step.kind == ACTIVE else 0
        most = max(most, _HELD * held + _AT_WORK * here)
        held -= sum(sizes.get(name, 0) for name in plan.last_reads[index] if name in made)
    return 8 * (samples * most + 2 * boxes)
