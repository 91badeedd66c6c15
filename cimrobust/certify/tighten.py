"""Linear bounds made tighter by gradient ascent.

Two things are free. A line below a bent ReLU may have any slope from 0 to 1 (alpha): ``a z <=
max(z, 0)`` for every such a. Where only chips are looked at on which an input z of a ReLU has a
sign s, a multiplier b >= 0 times s z may be subtracted (beta): as s z >= 0 on these chips, ``A z -
b s z <= A z``, and a lower bound of the left side is one of the right.
Every choice gives a sound bound, however good the ascent is; the best of all passes is kept.

References:
    K. Xu et al., "Fast and complete: enabling complete verification with rapid and massively
    parallel incomplete verifiers", ICLR 2021 (alpha-CROWN). S. Wang et al., "Beta-CROWN: efficient
    bound propagation with per-neuron split constraints", NeurIPS 2021. D. P. Kingma, J. Ba, "Adam:
    a method for stochastic optimization", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int8
from torch import Tensor

from cimrobust.certify.backward import Options, State, lower_bound
from cimrobust.certify.interval import flat
from cimrobust.certify.rules.relaxation import Activation

if TYPE_CHECKING:
    from cimrobust.certify.plan import PlannedStep

# Step of the first pass and what every pass leaves of it; they decide how tight, not whether sound.
_RATE = 0.3
_DECAY = 0.95


@dataclass(frozen=True)
class Tightened:
    """What ascent found.

    Attributes:
        bound: Best lower bounds, [forms, samples].
        forms: Forms on all tensors in the first pass.
    """

    bound: Float64[Tensor, "forms samples"]
    forms: Mapping[str, Float64[Tensor, "forms samples ..."]]


def bent_steps(state: State) -> list[PlannedStep]:
    """Return the activation functions whose lines have free slopes, or that bend at zero."""
    return [
        step
        for step in state.plan.steps
        if isinstance(step.rule, Activation) and step.rule.least_slope is not None
    ]


def tightened(
    state: State,
    tensor: str,
    form: Float64[Tensor, "forms samples *units"],
    *,
    passes: int,
    signs: Mapping[str, Int8[Tensor, "samples ..."]] | None = None,
) -> Tightened:
    """Bound linear forms on a tensor, as `lower_bound` does, with several backward passes.

    Args:
        state: Intervals.
        tensor: Name of the tensor.
        form: [forms, samples, ...].
        passes: Backward passes with gradients.
        signs: Chips looked at, as for `propagate`.
    """
    forms: dict[str, Float64[Tensor, "forms samples ..."]] = {}
    with torch.no_grad():
        best = lower_bound(state, tensor, form, options=Options(forms_at=forms))
    free = _Free.start(state, forms, signs or {})
    if not free.values:
        return Tightened(best, forms)
    rate = _RATE
    for index in range(passes):
        leaves = {key: value.detach().requires_grad_() for key, value in free.values.items()}
        with torch.enable_grad():
            slopes, duals = free.used(leaves)
            bound = lower_bound(state, tensor, form, options=Options(slopes=slopes, duals=duals))
            grads = torch.autograd.grad(bound.sum(), list(leaves.values()), allow_unused=True)
        best = torch.maximum(best, bound.detach())
        free.ascend(dict(zip(leaves, grads, strict=True)), rate, index + 1)
        rate *= _DECAY
    return Tightened(best, forms)


_Key = tuple[str, str]


@dataclass(frozen=True)
class _Free:
    """Slopes and multipliers, by kind and output of the activation function.

    Attributes:
        values: What ascent changes; multipliers in units of `scales`.
        limits: Smallest and largest values; equal where nothing is free.
        scales: Of multipliers, with the sign they are used with.
        moments: First and second, of Adam (Kingma and Ba, 2015).
    """

    values: dict[_Key, Float64[Tensor, "forms samples ..."]]
    limits: dict[_Key, tuple[Float64[Tensor, "samples ..."], Float64[Tensor, "samples ..."]]]
    scales: dict[_Key, Float64[Tensor, "forms samples ..."]]
    moments: dict[
        _Key, tuple[Float64[Tensor, "forms samples ..."], Float64[Tensor, "forms samples ..."]]
    ]

    @staticmethod
    def start(
        state: State,
        forms: Mapping[str, Float64[Tensor, "forms samples ..."]],
        signs: Mapping[str, Int8[Tensor, "samples ..."]],
    ) -> _Free:
        free = _Free({}, {}, {}, {})
        for step in bent_steps(state):
            if step.output not in forms:
                continue
            source, form = step.node.inputs[0], forms[step.output]
            assert isinstance(step.rule, Activation)
            data = state.interval(source)
            bent = step.rule.bends_below(data)
            drawn = step.rule.lines(data).lower_slope
            if bool(bent.any()):
                least = torch.where(
                    bent, torch.full_like(drawn, step.rule.least_slope or 0.0), drawn
                )
                free._add(
                    ("slope", step.output),
                    drawn.expand_as(form).clone(),
                    (least, torch.where(bent, torch.ones_like(drawn), drawn)),
                )
            if source in signs and bool((signs[source] != 0).any()):
                sign = signs[source].to(form.dtype)
                size = (
                    flat(form.abs(), 2).mean(-1).reshape(*form.shape[:2], *(1,) * (form.dim() - 2))
                )
                free.scales["dual", step.output] = -sign * size
                free._add(
                    ("dual", step.output),
                    torch.zeros_like(form),
                    (torch.zeros_like(sign), torch.where(sign != 0, 1e6, 0.0).to(form.dtype)),
                )
        return free

    def _add(
        self,
        key: _Key,
        value: Float64[Tensor, "forms samples *units"],
        limits: tuple[Float64[Tensor, "samples *units"], Float64[Tensor, "samples *units"]],
    ) -> None:
        self.values[key], self.limits[key] = value, limits
        self.moments[key] = (torch.zeros_like(value), torch.zeros_like(value))

    def used(
        self, leaves: Mapping[_Key, Float64[Tensor, "forms samples ..."]]
    ) -> tuple[
        dict[str, Float64[Tensor, "forms samples ..."]],
        dict[str, Float64[Tensor, "forms samples ..."]],
    ]:
        """Return slopes and multipliers as `lower_bound` takes them."""
        slopes = {name: leaf for (kind, name), leaf in leaves.items() if kind == "slope"}
        duals = {
            name: leaf * self.scales[kind, name]
            for (kind, name), leaf in leaves.items()
            if kind == "dual"
        }
        return slopes, duals

    def ascend(
        self,
        grads: Mapping[_Key, Float64[Tensor, "forms samples ..."] | None],
        rate: float,
        count: int,
    ) -> None:
        """Make one step of Adam upwards, within the limits."""
        for key, grad in grads.items():
            if grad is None:
                continue
            grad = grad.nan_to_num(0.0, 0.0, 0.0)
            first, second = self.moments[key]
            first.mul_(0.9).add_(grad, alpha=0.1)
            second.mul_(0.99).addcmul_(grad, grad, value=0.01)
            step = (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-12)
            least, most = self.limits[key]
            value = self.values[key].add_(rate * step)
            value.copy_(torch.minimum(torch.maximum(value, least), most))
