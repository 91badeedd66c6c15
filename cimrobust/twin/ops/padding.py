"""Pad, in all modes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Int, Int64, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator
from cimrobust.twin.ops.sliding_window import torch_pads
from cimrobust.twin.ops.torch_tensors import numbers


def mirrored(length: int, begin: int, end: int, mode: str) -> Int64[Tensor, "places"]:
    """Return, for every place of a padded axis, the place of the axis it copies."""
    places = torch.arange(-begin, length + end)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    period = max(2 * (length - 1), 1)
    folded = places % period
    return torch.where(folded < length, folded, period - folded)


def padded(
    x: Shaped[Tensor, "..."], begins: list[int], ends: list[int], mode: str, value: float
) -> Shaped[Tensor, "..."]:
    """Pad every axis, or crop it where an amount is negative."""
    if mode == "constant":
        return F.pad(x, torch_pads(begins, ends), value=value)
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin < 0 or end < 0:
            start = max(-begin, 0)
            x = x.narrow(axis, start, x.shape[axis] - start - max(-end, 0))
        if begin > 0 or end > 0:
            x = x.index_select(
                axis, mirrored(x.shape[axis], max(begin, 0), max(end, 0), mode).to(x.device)
            )
    return x


@operator("Pad")
def pad(node: Node) -> Kernel:
    """Pad: amounts by attribute before 11, as an input from then on; axes from 18 on."""
    mode = node.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise CannotConvertError(f"mode {mode!r} is not covered")
    stated = node.get("pads", node.get("paddings"))
    fill = float(node.get("value", 0.0))

    def run(
        x: Shaped[Tensor, "..."],
        given: Int[Tensor, "amounts"] | None = None,
        value: Shaped[Tensor, "..."] | None = None,
        axes: Int[Tensor, "axes"] | None = None,
    ) -> Shaped[Tensor, "..."]:
        amounts = numbers(given) if given is not None else list(stated)
        chosen = (
            list(range(x.dim())) if axes is None else [axis % x.dim() for axis in numbers(axes)]
        )
        begins, ends = [0] * x.dim(), [0] * x.dim()
        for position, axis in enumerate(chosen):
            begins[axis], ends[axis] = amounts[position], amounts[position + len(chosen)]
        return padded(x, begins, ends, mode, fill if value is None else value.item())

    return run
