"""Linear forms, backwards.

A linear form on a tensor is rewritten, operator by operator, as a linear form on earlier tensors
that is never larger, until it rests on the inputs, which are known. Here the weights are uncertain
and the inputs are not. At every tensor that all of the form rests on, its interval gives a bound as
well, and the largest is kept.

Sound, because every step replaces a form by one that is never larger on any chip: a chain of lower
bounds of lower bounds ends in a lower bound.

References:
    H. Zhang, T.-W. Weng, P.-Y. Chen, C.-J. Hsieh, L. Daniel, "Efficient neural network robustness
    certification with general activation functions", NeurIPS 2018 (CROWN).
    G. Singh, T. Gehr, M. Pueschel, M. Vechev, "An abstract domain for certifying neural networks",
    POPL 2019 (DeepPoly: the same substitution, operator by operator).
    K. Xu et al., "Automatic perturbation analysis for scalable certified robustness and beyond",
    NeurIPS 2020 (LiRPA: for any graph; forms that meet at a tensor add up).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rules.bilinear import Bilinear
from cimrobust.certify.rules.product import MatrixProduct
from cimrobust.certify.rules.relaxation import Activation
from cimrobust.certify.rules.rule import Pulled, Value, total, total_counted
from cimrobust.certify.tensor_kinds import ACTIVE, KNOWN

if TYPE_CHECKING:
    from cimrobust.certify.plan import Plan, PlannedStep


#: Values of one backward pass over a batch; bounds its memory to a few times this in bytes times 8.
_MOST_VALUES = 2**24
# Tensors of this size that are alive at once in the product of a form with intervals, and copies of
# every interval: ends, middle, radius.
_TEMPORARIES = 8
_COPIES = 4


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


def form_cost(state: State, steps: int | None = None) -> int:
    """Return about how many multiplications a form costs a sample.

    The form is on the tensor behind the first `steps` steps.
    """
    cost = 0
    for step in state.plan.steps[:steps]:
        weight = (
            state.values.get(step.node.inputs[1])
            if step.node.op in ("Conv", "Gemm", "MatMul")
            else None
        )
        if weight is not None and step.kind == ACTIVE:
            numel = weight.lo.numel() if isinstance(weight, Interval) else weight.numel()
            if isinstance(step.rule, Bilinear):
                numel //= state.num_samples
            made = state.interval(step.output).lo
            positions = (
                made[0, 0].numel() if step.node.op == "Conv" else math.prod(made.shape[1:-1])
            )
            cost += 4 * numel * positions
    return max(cost, 1)


def forms_at_once(state: State) -> int:
    """Return how many forms a backward pass takes at once, from the largest tensor on its way."""
    return max(1, _MOST_VALUES // (_largest(state) * state.num_samples))


def batch_bytes(state: State, *, samples: int) -> int:
    """Return the bytes that bounding a batch takes at its peak, about.

    The passes and the box of the weights.

    Args:
        state: Of the same network, with any number of samples.
        samples: Of the batch.
    """
    values = max(_MOST_VALUES, _largest(state) * samples)
    made = {step.output for step in state.plan.steps}
    held = {name: value.lo for name, value in state.values.items() if isinstance(value, Interval)}
    stored = sum(
        end[0].numel() * samples if name in made and end.dim() else end.numel()
        for name, end in held.items()
    )
    return 8 * (_TEMPORARIES * values + _COPIES * stored)


def _largest(state: State) -> int:
    """Return the values of the largest tensor that a form makes on its way, for one sample."""
    largest = 1
    for step in state.plan.steps:
        value = state.values.get(step.output)
        if step.kind == ACTIVE and isinstance(value, Interval):
            largest = max(largest, value.lo[0].numel())
            weight = state.values.get(step.node.inputs[1]) if step.node.op == "Conv" else None
            if isinstance(weight, Interval):
                largest = max(
                    largest, weight.lo.numel(), weight.lo[0].numel() * value.lo[0, 0].numel()
                )
    return largest


def lower_bounds(
    state: State, tensor: str, form: Float64[Tensor, "forms samples *units"]
) -> Float64[Tensor, "forms samples"]:
    """Return `lower_bound` for any number of forms, as many at once as fit into memory."""
    parts = torch.split(form, forms_at_once(state))
    return torch.cat([lower_bound(state, tensor, part) for part in parts])


@dataclass(frozen=True)
class Options:
    """What a backward pass may do differently.

    Attributes:
        slopes: Slopes of the lines below activation functions, [forms, samples, ...], by the name
            of their output; others are chosen by area.
        duals: What is added to the form on the input of activation functions, [forms, samples,
            ...], by the name of their output: a multiplier times something
            that no chip looked at has positive.
        corner: Output of a matrix product of data that are not negative, and the corner, 1 or -1,
            that its weights are at.
        forms_at: Filled with the forms on all tensors on the way; None: they are dropped.
    """

    slopes: Mapping[str, Float64[Tensor, "forms samples ..."]] = field(default_factory=dict)
    duals: Mapping[str, Float64[Tensor, "forms samples ..."]] = field(default_factory=dict)
    corner: tuple[str, int] = ("", 0)
    forms_at: dict[str, Float64[Tensor, "forms samples ..."]] | None = None


def lower_bound(
    state: State,
    tensor: str,
    form: Float64[Tensor, "forms samples *units"],
    *,
    steps: int | None = None,
    options: Options | None = None,
) -> Float64[Tensor, "forms samples"]:
    """Return a lower bound of linear forms on a tensor, for every chip of the box.

    Args:
        state: All intervals.
        tensor: Name of the tensor.
        form: Coefficients, [forms, samples, ...] in the tensor's shape.
        steps: The first so many steps make the tensor; None: all.
        options: What is done differently.

    Returns:
        [forms, samples].
    """
    options = options or Options()
    forms: dict[str, Float64[Tensor, "forms samples ..."]] = {tensor: form}
    constant = torch.zeros(form.shape[:2], dtype=form.dtype)
    best = torch.full_like(constant, -math.inf)
    # On the way to a product at one corner of its weights, intervals are about all chips, not about
    # those.
    may_rest = not options.corner[1]
    for step in reversed(state.plan.steps[:steps]):
        current = forms.pop(step.output, None)
        if current is None or step.kind == KNOWN:
            continue
        if options.forms_at is not None:
            options.forms_at[step.output] = current
        here = state.interval(step.output)
        # No form is left elsewhere: all of the bound rests on this tensor, whose interval ends it.
        if here.is_point or (may_rest and not forms):
            resting = constant + _at_worst(current, here)
            if here.is_point:
                constant = resting
                continue
            best = torch.fmax(best, resting)
        # The operator is exact up to an unknown e with |e| <= rounding: A e >= -|A| rounding.
        if here.rounding is not None:
            constant = constant - total(current.abs(), here.rounding)
        pulled = _pull(state, step, current, options)
        may_rest = may_rest or step.output == options.corner[0]
        constant = constant + pulled.constant
        for name, part in zip(step.node.inputs, pulled.coefs, strict=True):
            if part is not None:
                forms[name] = forms[name] + part if name in forms else part
    for name, part in forms.items():
        constant = constant + _at_worst(part, state.interval(name))
    # A bound that is no number proves nothing.
    return torch.nan_to_num(
        torch.fmax(best, constant), nan=-math.inf, posinf=-math.inf, neginf=-math.inf
    )


def _pull(
    state: State, step: PlannedStep, form: Float64[Tensor, "forms samples *units"], options: Options
) -> Pulled:
    """Pull a form back through one operator."""
    read, made, rule = state.inputs_of(step), state.interval(step.output), step.rule
    assert rule is not None
    if isinstance(rule, MatrixProduct) and step.output == options.corner[0]:
        return rule.backward(form, read, made, options.corner[1])
    if not isinstance(rule, Activation):
        return rule.backward(form, read, made)
    pulled = rule.backward(form, read, made, options.slopes.get(step.output))
    dual = options.duals.get(step.output)
    if dual is None or pulled.coefs[0] is None:
        return pulled
    return Pulled((pulled.coefs[0] + dual, *pulled.coefs[1:]), pulled.constant)


def _at_worst(
    form: Float64[Tensor, "forms samples *units"], interval: Interval
) -> Float64[Tensor, "forms samples"]:
    """Return the smallest value of a form over an interval.

    With x = m + d, |d| <= r: ``A x = A m + A d >= A m - |A| r``, reached at d = -sign(A) r.
    """
    if interval.is_point:
        return total_counted(form, interval.lo)
    return total_counted(form, interval.middle) - total_counted(form.abs(), interval.radius)
