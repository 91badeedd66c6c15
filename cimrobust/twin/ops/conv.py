"""Convolution and transposed convolution in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Real
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.sliding_window import CONVOLUTIONS, TRANSPOSED, Window, pad


@operator("Conv")
def conv(node: Node) -> Kernel:
    """Conv: any padding, groups and dilations; x [N, C, ...], w [M, C / groups, ...]."""
    return convolution(Window.of(node), int(node.get("group", 1)))


def convolution(window: Window, groups: int) -> Kernel:
    """Return a convolution with the given window; asymmetric padding is done beforehand."""

    def run(
        x: Real[Tensor, "samples channels *positions"],
        w: Real[Tensor, "first second *taps"],
        bias: Real[Tensor, "outputs"] | None = None,
    ) -> Real[Tensor, "samples outputs *places"]:
        rank = w.dim() - 2
        begins, ends = window.padding(x.shape[2:], w.shape[2:])
        steps, gaps = window.steps(rank), window.gaps(rank)
        function = CONVOLUTIONS[rank]
        if begins == ends:
            return function(x, w, bias, steps, begins, gaps, groups)  # type: ignore[no-any-return]
        return function(pad(x, begins, ends, 0.0), w, bias, steps, 0, gaps, groups)  # type: ignore[no-any-return]

    return run


@operator("ConvTranspose")
def conv_transpose(node: Node) -> Kernel:
    """ConvTranspose.

    Output cropped from the full one, so that asymmetric padding and `output_shape` are exact.
    """
    window, groups = Window.of(node), int(node.get("group", 1))
    extra, shape = node.get("output_padding"), node.get("output_shape")

    def run(
        x: Real[Tensor, "samples channels *positions"],
        w: Real[Tensor, "first second *taps"],
        bias: Real[Tensor, "outputs"] | None = None,
    ) -> Real[Tensor, "samples outputs *places"]:
        rank = w.dim() - 2
        steps, gaps = window.steps(rank), window.gaps(rank)
        more = tuple(extra or (0,) * rank)
        full = [
            (size - 1) * step + (taps - 1) * gap + 1
            for size, step, taps, gap in zip(x.shape[2:], steps, w.shape[2:], gaps, strict=True)
        ]
        begins, ends = transposed_pads(window, x.shape[2:], full, more, shape)
        if shape:
            goal = list(shape)[-rank:]
            more = tuple(
                max(plus, length - whole)
                for plus, length, whole in zip(more, goal, full, strict=True)
            )
        function = TRANSPOSED[rank]
        if begins == ends and not any(more):
            return function(x, w, bias, steps, begins, 0, groups, gaps)  # type: ignore[no-any-return]
        y = function(x, w, None, steps, 0, 0, groups, gaps)
        y = pad(
            y,
            [-begin for begin in begins],
            [plus - end for plus, end in zip(more, ends, strict=True)],
        )
        return y if bias is None else y + bias.reshape(-1, *(1,) * rank)

    return run


def transposed_pads(
    window: Window,
    size: Sequence[int],
    full: Sequence[int],
    more: Sequence[int],
    shape: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is cropped at both ends of the full output of a transposed convolution.

    Args:
        window: Attributes of the node.
        size: Spatial size of the input.
        full: Spatial size of the output without padding.
        more: output_padding.
        shape: output_shape, with or without the first two axes; None where not stated.
    """
    rank = len(size)
    wanted = list(shape)[-rank:] if shape else None
    if wanted is None and window.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [length * step for length, step in zip(size, window.steps(rank), strict=True)]
    if wanted is None:
        return window.padding(size, (1,) * rank)
    total = [
        max(whole + plus - goal, 0) for whole, plus, goal in zip(full, more, wanted, strict=True)
    ]
    less, most = (
        tuple(amount // 2 for amount in total),
        tuple(amount - amount // 2 for amount in total),
    )
    return (less, most) if window.auto_pad == "SAME_UPPER" else (most, less)
