"""Gradients through operations that have none.

Rounding, clipping to an integer range, sign, saturated activations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAK = 0.1
"""Gradient outside the range of a quantiser, as a fraction of that inside it.

Saturated values can still find their way back.
"""


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
    def forward(value: Tensor, path: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        return None

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def surrogate(value: Tensor, path: Tensor) -> Tensor:
    """Return `value` exactly, with the gradient of `path`, which has the same shape."""
    if torch.is_grad_enabled() and path.requires_grad:
        return _Surrogate.apply(value.detach(), path)  # type: ignore[no-any-return,no-untyped-call]
    return value


def leaking(value: Tensor, x: Tensor) -> Tensor:
    """Return `value` with a gradient to `x` on top of its own, `LEAK` everywhere.

    A way back from where the function has become flat.
    """
    return surrogate(value, value + LEAK * x)


def leaky_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; the gradient outside is `LEAK`."""
    clamped = x.clamp(low, high)
    if torch.is_grad_enabled() and x.requires_grad:
        return surrogate(clamped, clamped + LEAK * (x - clamped))
    return clamped


def round_clamp(x: Tensor, low: float, high: float, *, softened: bool = False) -> Tensor:
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
