"""Padding and sizes of sliding windows, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Real
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Node


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
