"""Comparisons and what reads them: a step between two values is what a Sign is, in other words."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.surrogate import step_path, surrogate
from cimrobust.twin.ops.torch_tensors import together

#: Readers that take a comparison as 0 and 1 with a gradient, in place of False and True.
_DIFFERENTIABLE = frozenset({"Where 0", "Cast 0", "Not 0"})


def _compared(
    function: Callable[[Shaped[Tensor, "..."], Shaped[Tensor, "..."]], Shaped[Tensor, "..."]],
    sign: float,
    node: Node,
) -> Kernel:
    """Return a comparison; straight through, its gradient is half of that of a Sign.

    Only where gradients are taken and all readers can take them.
    """
    settings = node.settings
    passes = bool(node.readers) and node.readers <= _DIFFERENTIABLE

    def run(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        a, b = together((a, b))
        value = function(a, b)
        if not (passes and settings.straight_through and torch.is_grad_enabled()):
            return value
        if not (a.requires_grad or b.requires_grad):
            return value
        path = step_path(sign * (a - b), settings) / 2
        return surrogate(value.to(path.dtype), path)

    return run


operator("Greater", since=7)(lambda node: _compared(torch.gt, 1.0, node))
operator("GreaterOrEqual", since=7)(lambda node: _compared(torch.ge, 1.0, node))
operator("Less", since=7)(lambda node: _compared(torch.lt, -1.0, node))
operator("LessOrEqual", since=7)(lambda node: _compared(torch.le, -1.0, node))


@operator("Not")
def negation(node: Node) -> Kernel:
    """Not; of a comparison that carries a gradient, 1 minus it."""
    passes = bool(node.readers) and node.readers <= _DIFFERENTIABLE

    def run(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        if not x.is_floating_point():
            return torch.logical_not(x)
        return 1 - x if passes else x == 0

    return run


@operator("Where")
def where(node: Node) -> Kernel:
    """Where; of a comparison that carries a gradient, both values pull at it."""

    def run(
        condition: Shaped[Tensor, "..."], x: Shaped[Tensor, "..."], y: Shaped[Tensor, "..."]
    ) -> Shaped[Tensor, "..."]:
        condition, x, y = together((condition, x, y))
        if not condition.is_floating_point():
            return torch.where(condition, x, y)
        value = torch.where(condition > 0, x, y)
        if not value.is_floating_point():
            return value
        # Infinities stand for "left out" in masks: between them nothing pulls.
        pull = torch.nan_to_num((x - y).detach(), nan=0.0, posinf=0.0, neginf=0.0)
        return surrogate(value, value + pull * condition)

    return run
