"""New tensors: ConstantOfShape, Range, EyeLike and random ones."""

from __future__ import annotations

import torch
from jaxtyping import Int, Real, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.torch_tensors import numbers, torch_type


@operator("ConstantOfShape")
def constant_of_shape(node: Node) -> Kernel:
    """ConstantOfShape-9; integers stay on the CPU, where shapes are computed."""
    value = node.get("value")
    settings = node.settings

    def run(shape: Int[Tensor, "axes"]) -> Shaped[Tensor, "..."]:
        dims = numbers(shape)
        if value is None or value.is_floating_point():
            fill = 0.0 if value is None else value.item()
            return torch.full(dims, fill, dtype=settings.dtype, device=settings.device)
        device = "cpu" if value.dtype == torch.int64 else settings.device
        return torch.full(dims, value.item(), dtype=value.dtype, device=device)

    return run


@operator("Range")
def range_11(node: Node) -> Kernel:
    """Range-11."""

    def run(
        start: Shaped[Tensor, "..."], limit: Shaped[Tensor, "..."], delta: Shaped[Tensor, "..."]
    ) -> Real[Tensor, "values"]:
        if not start.is_floating_point():
            return torch.arange(
                int(start), int(limit), int(delta), dtype=start.dtype, device=start.device
            )
        low, step = float(start), float(delta)
        count = max(int(-((low - float(limit)) // step)), 0)
        return low + step * torch.arange(count, dtype=start.dtype, device=start.device)

    return run


@operator("EyeLike")
def eye_like(node: Node) -> Kernel:
    """EyeLike-9."""
    shift, to, settings = int(node.get("k", 0)), node.get("dtype"), node.settings

    def run(x: Shaped[Tensor, "rows columns"]) -> Shaped[Tensor, "rows columns"]:
        dtype = x.dtype if to is None else torch_type(to, settings.dtype)
        return torch.ones_like(x, dtype=torch.float32).tril(shift).triu(shift).to(dtype)

    return run
