"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Int, Int64, Real
from torch import Tensor

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator
from cimrobust.twin.ops.sliding_window import CONVOLUTIONS, Window, ceil_excess, pad

MAX_POOLS: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("MaxPool")
def max_pool(node: Node) -> Kernel:
    """MaxPool, all versions; flat indices where they are asked for."""
    window, kernel = Window.of(node), tuple(node.get("kernel_shape"))
    rank, ceil = len(kernel), bool(node.get("ceil_mode", 0))
    steps, gaps, function = window.steps(rank), window.gaps(rank), MAX_POOLS.get(len(kernel))
    if function is None:
        raise CannotConvertError(f"pooling over {rank} axes is not covered")
    if node.wants(1):
        return _max_pool_indices(window, kernel, ceil, bool(node.get("storage_order", 0)))

    def run(
        x: Real[Tensor, "samples channels *positions"],
    ) -> Real[Tensor, "samples channels *places"]:
        begins, ends = window.padding(x.shape[2:], kernel)
        if ceil:
            excess = ceil_excess(x.shape[2:], kernel, window, begins, ends)
            ends = tuple(end + more for end, more in zip(ends, excess, strict=True))
        if (
            x.device.type == "cpu"
            and max(kernel) <= SMALL_WINDOW
            and not (x.requires_grad and torch.is_grad_enabled())
        ):
            values = x if x.is_floating_point() else x.to(torch.float32)
            return largest_by_slices(pad(values, begins, ends, -math.inf), kernel, steps, gaps).to(
                x.dtype
            )
        if (
            begins == ends
            and x.is_floating_point()
            and all(2 * begin <= taps for begin, taps in zip(begins, kernel, strict=True))
        ):
            return function(x, kernel, steps, begins, gaps)  # type: ignore[no-any-return]
        values = x if x.is_floating_point() else x.to(torch.float32)
        return function(pad(values, begins, ends, -math.inf), kernel, steps, 0, gaps).to(x.dtype)  # type: ignore[no-any-return]

    return run


SMALL_WINDOW = 4
"""Largest window at which the maximum over slices beats torch's pooling on a CPU.

Ten times at 2 x 2, if no gradient is needed.
"""


def largest_by_slices(
    x: Real[Tensor, "samples channels *positions"],
    kernel: Sequence[int],
    steps: Sequence[int],
    gaps: Sequence[int],
) -> Real[Tensor, "samples channels *places"]:
    """Return the maximum under every position of a window, as maxima of strided slices."""
    for axis, (taps, step, gap) in enumerate(zip(kernel, steps, gaps, strict=True), start=2):
        last = (x.shape[axis] - (taps - 1) * gap - 1) // step * step + 1
        lead = (slice(None),) * axis
        y = x[(*lead, slice(0, last, step))]
        for tap in range(1, taps):
            y = torch.maximum(y, x[(*lead, slice(tap * gap, tap * gap + last, step))])
        x = y
    return x


def _max_pool_indices(
    window: Window, kernel: tuple[int, ...], ceil: bool, column_major: bool
) -> Kernel:
    rank = len(kernel)

    def run(
        x: Real[Tensor, "samples channels *positions"],
    ) -> tuple[Real[Tensor, "samples channels *places"], Int64[Tensor, "samples channels *places"]]:
        begins, ends = window.padding(x.shape[2:], kernel)
        if ceil:
            excess = ceil_excess(x.shape[2:], kernel, window, begins, ends)
            ends = tuple(end + more for end, more in zip(ends, excess, strict=True))
        values = x if x.is_floating_point() else x.to(torch.float32)
        padded = pad(values, begins, ends, -math.inf)
        best, where = MAX_POOLS[rank](
            padded, kernel, window.steps(rank), 0, window.gaps(rank), False, True
        )
        place = _unpadded(where, padded.shape[2:], x.shape[2:], begins, column_major)
        planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(
            *x.shape[:2], *(1,) * rank
        )
        return best.to(x.dtype), place + planes * math.prod(x.shape[2:])

    return run


def _unpadded(
    where: Int64[Tensor, "samples channels *places"],
    padded: Sequence[int],
    size: Sequence[int],
    begins: Sequence[int],
    column_major: bool,
) -> Int64[Tensor, "samples channels *places"]:
    """Turn flat positions in a padded plane into flat positions in the plane."""
    coordinates = []
    for length, begin in zip(reversed(padded), reversed(begins), strict=True):
        coordinates.append(where % length - begin)
        where = where // length
    coordinates.reverse()
    flat = torch.zeros_like(where)
    pairs = list(zip(coordinates, size, strict=True))
    for coordinate, length in reversed(pairs) if column_major else pairs:
        flat = flat * length + coordinate
    return flat


@operator("AveragePool")
def average_pool(node: Node) -> Kernel:
    """AveragePool, all versions: padding counted or not, ceil_mode, dilations of opset 19."""
    window, kernel = Window.of(node), tuple(node.get("kernel_shape"))
    rank, ceil, count_pads = (
        len(kernel),
        bool(node.get("ceil_mode", 0)),
        bool(node.get("count_include_pad", 0)),
    )
    steps, function = window.steps(rank), AVERAGE_POOLS.get(rank)
    if function is None:
        raise CannotConvertError(f"pooling over {rank} axes is not covered")
    dilated = any(gap != 1 for gap in window.gaps(rank))

    def run(
        x: Real[Tensor, "samples channels *positions"],
    ) -> Real[Tensor, "samples channels *places"]:
        begins, ends = window.padding(x.shape[2:], kernel)
        simple = begins == ends and all(
            2 * begin <= taps for begin, taps in zip(begins, kernel, strict=True)
        )
        if simple and not ceil and not dilated:
            return function(x, kernel, steps, begins, False, count_pads)  # type: ignore[no-any-return]
        excess = ceil_excess(x.shape[2:], kernel, window, begins, ends) if ceil else (0,) * rank
        inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
        counted = pad(inside, begins, ends, 1.0 if count_pads else 0.0)
        zeros = (0,) * rank
        total = window_sum(pad(pad(x, begins, ends), zeros, excess), kernel, window)
        return total / window_sum(pad(counted, zeros, excess), kernel, window)

    return run


def window_sum(
    x: Real[Tensor, "samples channels *positions"], kernel: Sequence[int], window: Window
) -> Real[Tensor, "samples channels *places"]:
    """Return the sum under every position of a window without padding; x [N, C, ...]."""
    rank = len(kernel)
    ones = torch.ones((1, 1, *kernel), dtype=x.dtype, device=x.device)
    flat = x.reshape(-1, 1, *x.shape[2:])
    y = CONVOLUTIONS[rank](flat, ones, None, window.steps(rank), 0, window.gaps(rank))
    return y.reshape(*x.shape[:2], *y.shape[2:])  # type: ignore[no-any-return]


@operator("LpPool")
def lp_pool(node: Node) -> Kernel:
    """LpPool, all versions."""
    window, kernel, p = Window.of(node), tuple(node.get("kernel_shape")), node.get("p", 2)
    ceil = bool(node.get("ceil_mode", 0))

    def run(
        x: Real[Tensor, "samples channels *positions"],
    ) -> Real[Tensor, "samples channels *places"]:
        begins, ends = window.padding(x.shape[2:], kernel)
        if ceil:
            excess = ceil_excess(x.shape[2:], kernel, window, begins, ends)
            ends = tuple(end + more for end, more in zip(ends, excess, strict=True))
        total: Real[Tensor, "samples channels *places"] = window_sum(
            pad(x, begins, ends).abs() ** p, kernel, window
        ) ** (1 / p)
        return total

    return run


def _axes(x: Real[Tensor, "samples channels *positions"]) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@operator("GlobalAveragePool")
def global_average_pool(node: Node) -> Kernel:
    """GlobalAveragePool."""
    return lambda x: x.mean(_axes(x), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node) -> Kernel:
    """GlobalMaxPool."""
    return lambda x: x.amax(_axes(x), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node) -> Kernel:
    """GlobalLpPool."""
    p = node.get("p", 2)
    return lambda x: torch.linalg.vector_norm(x, p, _axes(x), keepdim=True)


@operator("MaxUnpool")
def max_unpool(node: Node) -> Kernel:
    """MaxUnpool-9: values back at the places that MaxPool's indices name."""
    kernel, window = tuple(node.get("kernel_shape")), Window.of(node)

    def run(
        x: Real[Tensor, "samples channels *positions"],
        indices: Int[Tensor, "samples channels *positions"],
        shape: Int[Tensor, "axes"] | None = None,
    ) -> Real[Tensor, "samples channels *places"]:
        rank = len(kernel)
        begins, ends = window.padding(x.shape[2:], kernel)
        size = [
            (length - 1) * step + taps - begin - end
            for length, step, taps, begin, end in zip(
                x.shape[2:], window.steps(rank), kernel, begins, ends, strict=True
            )
        ]
        whole = (
            [*x.shape[:2], *size] if shape is None else [int(length) for length in shape.tolist()]
        )
        flat = torch.zeros(math.prod(whole), dtype=x.dtype, device=x.device)
        if shape is not None and whole[2:] != size:
            # Indices count in the tensor that the window sizes imply, not in the larger one asked
            # for.
            small = torch.zeros(math.prod([*x.shape[:2], *size]), dtype=x.dtype, device=x.device)
            small = small.scatter(0, indices.flatten(), x.flatten()).reshape(*x.shape[:2], *size)
            return pad(
                small,
                (0,) * rank,
                [goal - length for goal, length in zip(whole[2:], size, strict=True)],
            )
        return flat.scatter(0, indices.flatten(), x.flatten()).reshape(whole)

    return run
