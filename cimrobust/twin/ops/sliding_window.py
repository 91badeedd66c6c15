"""Padding and sizes of sliding windows, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Real
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Node

#: torch's functions by number of axes.
CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Window:
    """Attributes that sliding windows have in common, before the number of axes is known.

    Attributes:
        strides: Steps, None for ones.
        dilations: Distances of taps, None for ones.
        pads: All begins, then all ends; None for none.
        auto_pad: How pads are chosen: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
    """

    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None
    pads: tuple[int, ...] | None
    auto_pad: str

    @staticmethod
    def of(node: Node) -> Window:
        """Read the attributes of a node."""
        values = [node.get(name) for name in ("strides", "dilations", "pads")]
        strides, dilations, pads = (None if value is None else tuple(value) for value in values)
        return Window(strides, dilations, pads, node.get("auto_pad") or "NOTSET")

    def steps(self, rank: int) -> tuple[int, ...]:
        """Return the stride of every axis."""
        return self.strides or (1,) * rank

    def gaps(self, rank: int) -> tuple[int, ...]:
        """Return the dilation of every axis."""
        return self.dilations or (1,) * rank

    def padding(
        self, size: Sequence[int], kernel: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the padding at both ends of every axis for an input of spatial size `size`."""
        rank = len(kernel)
        if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = [
                max((-(-length // stride) - 1) * stride + (taps - 1) * gap + 1 - length, 0)
                for length, taps, stride, gap in zip(
                    size, kernel, self.steps(rank), self.gaps(rank), strict=True
                )
            ]
            less, more = (
                tuple(amount // 2 for amount in total),
                tuple(amount - amount // 2 for amount in total),
            )
            return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)
        if self.auto_pad == "VALID" or self.pads is None:
            return (0,) * rank, (0,) * rank
        return self.pads[:rank], self.pads[rank:]


def ceil_excess(
    size: Sequence[int],
    kernel: Sequence[int],
    window: Window,
    begins: Sequence[int],
    ends: Sequence[int],
) -> tuple[int, ...]:
    """Return how far the last window of ceil_mode reaches behind the padded input, per axis.

    A window that would start in the padding behind the input is left out, as onnxruntime and torch
    do.
    """
    rank = len(kernel)
    excess = []
    for length, taps, step, gap, begin, end in zip(
        size, kernel, window.steps(rank), window.gaps(rank), begins, ends, strict=True
    ):
        reach = (taps - 1) * gap + 1
        count = -(-(length + begin + end - reach) // step) + 1
        if (count - 1) * step >= length + begin:
            count -= 1
        excess.append(max((count - 1) * step + reach - (length + begin + end), 0))
    return tuple(excess)


def torch_pads(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return pads in the order of `torch.nn.functional.pad`.

    Last axis first, begin and end together.
    """
    return [
        amount for pair in zip(reversed(begins), reversed(ends), strict=True) for amount in pair
    ]


def pad(
    x: Real[Tensor, "..."], begins: Sequence[int], ends: Sequence[int], value: float = 0.0
) -> Real[Tensor, "..."]:
    """Pad (or crop, where negative) the last axes of a tensor."""
    return F.pad(x, torch_pads(begins, ends), value=value)
