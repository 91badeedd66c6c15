"""Gradients through operations that have none.

Rounding, clipping to an integer range, sign, saturated activations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Real
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Settings

LEAK = 0.1
"""Gradient outside the range of a quantiser, as a fraction of that inside it.

Saturated values can still find their way back.
"""


#: Operators that a width may change: those whose steps can be coarse.
HARD = frozenset(
    {
        *("Sign", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("Round", "Floor", "Ceil", "QuantizeLinear"),
    }
)
#: Standard deviation of what is rounded, in steps, below which rounding is coarse: two bits or so.
#: Finer steps follow one another so closely that the straight-through gradient is theirs.
COARSE = 2.0
#: Operators that `Settings.straight_through` changes. (Quantisers always pass gradients through.)
STEPWISE = frozenset({"Round", "Floor", "Ceil", "Sign"})
#: Operators that `Settings.softened` changes.
SOFTENED = STEPWISE | {
    *(
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "QLinearAdd",
        "QLinearMul",
    ),
    *("Sigmoid", "Tanh", "HardSigmoid", "Clip"),
}


class _Surrogate(torch.autograd.Function):
    """Value of the first argument, gradient to the second."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        value: Real[Tensor, "*shape"], path: Real[Tensor, "*shape"]
    ) -> Real[Tensor, "*shape"]:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        return None

    @staticmethod
    def backward(ctx: Any, grad: Real[Tensor, "*shape"]) -> tuple[None, Float[Tensor, "*shape"]]:
        return None, grad


def surrogate(
    value: Real[Tensor, "*shape"], path: Real[Tensor, "*shape"]
) -> Real[Tensor, "*shape"]:
    """Return `value` exactly, with the gradient of `path`, which has the same shape."""
    if torch.is_grad_enabled() and path.requires_grad:
        return _Surrogate.apply(value.detach(), path)  # type: ignore[no-any-return,no-untyped-call]
    return value


def leaking(value: Real[Tensor, "*shape"], x: Real[Tensor, "*shape"]) -> Real[Tensor, "*shape"]:
    """Return `value` with a gradient to `x` on top of its own, `LEAK` everywhere.

    A way back from where the function has become flat.
    """
    return surrogate(value, value + LEAK * x)


def leaky_clamp(x: Real[Tensor, "*shape"], low: float, high: float) -> Real[Tensor, "*shape"]:
    """Clamp to [low, high]; the gradient outside is `LEAK`."""
    clamped = x.clamp(low, high)
    if torch.is_grad_enabled() and x.requires_grad:
        return surrogate(clamped, clamped + LEAK * (x - clamped))
    return clamped


def round_clamp(
    x: Real[Tensor, "*shape"], low: float, high: float, *, softened: bool = False
) -> Real[Tensor, "*shape"]:
    """Round half to even (left out if softened) and clamp to [low, high].

    Straight-through gradient inside, `LEAK` outside.
    """
    if softened:
        return leaky_clamp(x, low, high)
    value = x.round().clamp(low, high)
    if torch.is_grad_enabled() and x.requires_grad:
        clamped = x.clamp(low, high)
        return surrogate(value, clamped + LEAK * (x - clamped))
    return value


def step_path(x: Real[Tensor, "*shape"], settings: Settings) -> Real[Tensor, "*shape"]:
    """Return what a step from -1 to 1 at 0 takes its gradient from.

    That of a clamp to [-1, 1]; with a width, a Gaussian around 0 as wide as so many standard
    deviations of `x`.
    """
    _list(settings, x, 0.0)
    if settings.width is None:
        return x.clamp(-1, 1)
    sigma = _deviation(x) * settings.width
    return 2 * _bell(x.detach(), sigma) * x


def rounding_path(
    x: Real[Tensor, "*shape"], offset: float, settings: Settings
) -> Real[Tensor, "*shape"]:
    """Return what a staircase of steps 1 wide takes its gradient from.

    The identity; with a width and coarse steps, a Gaussian around every step.

    Args:
        x: What is rounded.
        offset: Where steps are, from integers: 0.5 for rounding to the nearest, 0 for Floor.
        settings: Of the twin.
    """
    _list(settings, x, 1.0)
    if settings.width is None:
        return x
    held = x.detach()
    deviation = _deviation(x)
    # Wider ones add up to 1 everywhere, to three digits.
    sigma = (deviation * settings.width).clamp(max=0.6)
    behind = held - offset - torch.floor(held - offset)
    slope = sum(_bell(behind - step, sigma) for step in (-1.0, 0.0, 1.0, 2.0))
    return torch.where(deviation < COARSE, slope, torch.ones_like(held)) * x


def _list(settings: Settings, x: Float[Tensor, "..."], spread: float) -> None:
    if settings.steps is not None and x.requires_grad:
        settings.steps.append(spread * float(_deviation(x)))


def _deviation(x: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Return the standard deviation of all values of a run, never 0."""
    held = x.detach()
    return torch.nan_to_num((held - held.mean()).square().mean().sqrt(), nan=1.0).clamp(min=1e-12)


def _bell(x: Real[Tensor, "*shape"], sigma: Float[Tensor, ""]) -> Real[Tensor, "*shape"]:
    return torch.exp(-0.5 * (x / sigma).square()) / (sigma * math.sqrt(2 * math.pi))
