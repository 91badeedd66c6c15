"""Reductions along axes, arguments of extrema, running sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int, Int64, Real, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.torch_tensors import axes_from, index_of, numbers

Reduction = Callable[[Shaped[Tensor, "..."], list[int], bool], Shaped[Tensor, "..."]]


def _product(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _sum(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _extremum(function: Callable[..., Shaped[Tensor, "..."]], empty: float) -> Reduction:
    def run(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
        if x.numel() == 0 and x.dtype == torch.bool:
            return _product(torch.ones_like(x, dtype=torch.uint8), axes, keep).to(torch.bool) & (
                empty > 0
            )
        if x.numel() == 0:
            return _product(torch.ones_like(x), axes, keep) * empty
        if x.dtype == torch.bool:
            return function(x.to(torch.uint8), axes, keep).to(torch.bool)
        return function(x, axes, keep)

    return run


def _norm(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    if not x.is_floating_point():
        return _sum(x * x, axes, keep).to(torch.float64).sqrt().to(x.dtype)
    norm: Shaped[Tensor, "..."] = torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
    return norm


def _log_sum(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    return torch.log(_sum(x, axes, keep))


def _mean(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    return (
        x.mean(axes, keepdim=keep)
        if x.is_floating_point()
        else x.to(torch.float64).mean(axes, keepdim=keep).trunc().to(x.dtype)
    )


def _log_sum_exp(x: Shaped[Tensor, "..."], axes: list[int], keep: bool) -> Shaped[Tensor, "..."]:
    return (
        torch.logsumexp(x, axes, keep)
        if x.is_floating_point()
        else torch.logsumexp(x.to(torch.float64), axes, keep).to(x.dtype)
    )


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extremum(torch.amax, -torch.inf),
    "ReduceMin": _extremum(torch.amin, torch.inf),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: _sum(x.abs(), axes, keep),
    "ReduceL2": _norm,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}


@operator(*REDUCTIONS)
def reduction(node: Node) -> Kernel:
    """Reductions: axes by attribute or, in newer opsets, as an input.

    Without axes all of them, or none at all if so asked.
    """
    function = REDUCTIONS[node.op]
    stated, keep = node.get("axes"), bool(node.get("keepdims", 1))
    do_nothing = bool(node.get("noop_with_empty_axes", 0))

    def run(
        x: Shaped[Tensor, "..."], given: Int[Tensor, "axes"] | None = None
    ) -> Shaped[Tensor, "..."]:
        axes = axes_from(stated, given)
        if not axes:
            axes = [] if do_nothing else list(range(x.dim()))
        if not axes:
            return elementwise(x)
        return function(x, axes, keep)

    def elementwise(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        return function(x.unsqueeze(0), [0], False)

    return run


@operator("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> Kernel:
    """ArgMax and ArgMin: the first of equals, or the last."""
    function = torch.argmax if node.op == "ArgMax" else torch.argmin
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    last = bool(node.get("select_last_index", 0))

    def run(x: Shaped[Tensor, "..."]) -> Int64[Tensor, "..."]:
        if not last:
            return function(x, axis, keep)
        place: Int64[Tensor, "..."] = x.shape[axis] - 1 - function(x.flip(axis), axis, keep)
        return place

    return run


@operator("CumSum", "CumProd")
def cumulative(node: Node) -> Kernel:
    """CumSum-11 and CumProd-26."""
    function = torch.cumsum if node.op == "CumSum" else torch.cumprod
    exclusive, reverse = node.get("exclusive", 0), node.get("reverse", 0)
    start = 0 if node.op == "CumSum" else 1

    def run(
        x: Real[Tensor, "*shape"], axis: Int[Tensor, ""] | Int[Tensor, "1"]
    ) -> Real[Tensor, "*shape"]:
        dim = numbers(axis)[0]
        x = x.flip(dim) if reverse else x
        y = function(x, dim, dtype=x.dtype)
        if exclusive:
            y = torch.cat(
                [torch.full_like(y.narrow(dim, 0, 1), start), y.narrow(dim, 0, y.shape[dim] - 1)],
                dim,
            )
        return y.flip(dim) if reverse else y

    return run


@operator("TopK")
def top_k(node: Node) -> Kernel:
    """TopK: k by attribute before 10; of equal values the one with the lower index first."""
    axis, stated = node.get("axis", -1), node.get("k")
    largest = bool(node.get("largest", 1))

    def run(
        x: Shaped[Tensor, "..."], given: Shaped[Tensor, "..."] | None = None
    ) -> tuple[Real[Tensor, "*chosen"], Int64[Tensor, "*chosen"]]:
        count = int(stated) if given is None else numbers(given)[0]
        order = torch.argsort(x, dim=axis, descending=largest, stable=True).narrow(axis, 0, count)
        return torch.gather(x, axis, order), order

    return run


@operator("ReverseSequence")
def reverse_sequence(node: Node) -> Kernel:
    """ReverseSequence-10: the first entries of every sequence in reverse, the rest as it is."""
    batch_axis, time_axis = node.get("batch_axis", 1), node.get("time_axis", 0)

    def run(
        x: Shaped[Tensor, "*shape"], lengths: Int[Tensor, "samples"]
    ) -> Shaped[Tensor, "*shape"]:
        moved = x.movedim((batch_axis, time_axis), (0, 1))
        steps = torch.arange(moved.shape[1], device=x.device).unsqueeze(0)
        ends = index_of(lengths, x).unsqueeze(1)
        order = torch.where(steps < ends, ends - 1 - steps, steps)
        order = order.reshape(*order.shape, *(1,) * (moved.dim() - 2)).expand(moved.shape)
        return torch.gather(moved, 1, order).movedim((0, 1), (batch_axis, time_axis))

    return run
