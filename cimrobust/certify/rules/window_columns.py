"""The windows of a plane as the columns of a matrix, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Float64
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.sliding_window import Window


@dataclass(frozen=True)
class Columns:
    """Windows of a plane as columns; one dimension is a plane of height 1.

    Attributes:
        size: Spatial size of the plane, padding included.
        crop: Padding: begin and end, last axis first, as torch wants it.
        taps: Size of the window.
        steps: Strides.
        gaps: Dilations.
        is_line: There is one axis only.
    """

    size: tuple[int, int]
    crop: tuple[int, ...]
    taps: tuple[int, int]
    steps: tuple[int, int]
    gaps: tuple[int, int]
    is_line: bool

    @staticmethod
    def of(window: Window, size: Sequence[int], taps: Sequence[int]) -> Columns:
        """Return the windows that slide over an input of spatial size `size`."""
        rank = len(size)
        begins, ends = window.padding(size, taps)
        steps, gaps = window.steps(rank), window.gaps(rank)
        values = [
            (length + begin + end, tap, step, gap, begin, end)
            for length, tap, step, gap, begin, end in zip(
                size, taps, steps, gaps, begins, ends, strict=True
            )
        ]
        if rank == 1:
            values.insert(0, (1, 1, 1, 1, 0, 0))
        (h, th, sh, gh, bh, eh), (w, tw, sw, gw, bw, ew) = values
        return Columns((h, w), (bw, ew, bh, eh), (th, tw), (sh, sw), (gh, gw), rank == 1)

    @property
    def num_positions(self) -> int:
        """Places of the window."""
        places = [
            (length - (tap - 1) * gap - 1) // step + 1
            for length, tap, step, gap in zip(
                self.size, self.taps, self.steps, self.gaps, strict=True
            )
        ]
        return places[0] * places[1]

    def unfold(
        self, plane: Float[Tensor, "samples channels *plane"], fill: float = 0.0
    ) -> Float[Tensor, "samples columns positions"]:
        """Return [samples, channels * taps, positions]."""
        flat = plane[:, :, None] if self.is_line else plane
        return F.unfold(F.pad(flat, self.crop, value=fill), self.taps, self.gaps, 0, self.steps)

    def fold(
        self, columns: Float64[Tensor, "samples *columns positions"]
    ) -> Float64[Tensor, "samples channels *plane"]:
        """Return the transpose of `unfold`, [samples, channels, ...].

        `columns` is [samples, channels * taps, positions], groups apart or together.
        """
        flat = columns.reshape(columns.shape[0], -1, self.num_positions)
        plane = F.fold(flat, self.size, self.taps, self.gaps, 0, self.steps)
        left, right, top, bottom = self.crop
        plane = plane[:, :, top : self.size[0] - bottom, left : self.size[1] - right]
        return plane[:, :, 0] if self.is_line else plane
