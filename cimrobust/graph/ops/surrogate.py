"""Gradients through operations that have none: rounding, clipping to an integer range, sign."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAK = 0.1
"""Gradient outside the range of a quantiser, as a fraction of that inside it: saturated values can still find their way back."""


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


def leaky_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; the gradient outside is `LEAK`."""
    clamped = x.clamp(low, high)
    if torch.is_grad_enabled() and x.requires_grad:
        return surrogate(clamped, clamped + LEAK * (x - clamped))
    return clamped


def round_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Round half to even and clamp to [low, high]; straight-through gradient inside, `LEAK` outside."""
    value = x.round().clamp(low, high)
    if torch.is_grad_enabled() and x.requires_grad:
        clamped = x.clamp(low, high)
        return surrogate(value, clamped + LEAK * (x - clamped))
    return value
