"""Along which axis of a tensor samples lie, found by running a network on one, two and three.

Recurrent layers and attention as torch.nn writes them have time first and samples second, and heads
or windows folded into the samples. Bounds want samples in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

#: Runs a network on its first so many samples (which repeat where there are fewer), and returns
#: tensors by name.
Runner = Callable[[Sequence[str], int], Mapping[str, Shaped[Tensor, "..."]]]


@dataclass(frozen=True)
class SampleLayout:
    """Where the samples of a tensor are.

    Attributes:
        shape: Shape of the tensor of one sample.
        axis: Axis that counts samples, or samples and what is folded into them.
        each: Entries of one sample along it.
        is_outer: All entries of a sample stand together; else those of all samples that are alike.
    """

    shape: tuple[int, ...]
    axis: int = 0
    each: int = 1
    is_outer: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether samples are in front already."""
        return self.axis == 0 and self.each == 1

    @property
    def is_last(self) -> bool:
        """Whether samples lie along the last of several axes."""
        return len(self.shape) > 1 and self.axis == len(self.shape) - 1

    def front(self, tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "samples ..."]:
        """Return a tensor with its samples in front, what was folded into them unfolded."""
        if self.each == 1:
            return tensor.movedim(self.axis, 0)
        count = tensor.shape[self.axis] // self.each
        sizes = (count, self.each) if self.is_outer else (self.each, count)
        shape = (*tensor.shape[: self.axis], *sizes, *tensor.shape[self.axis + 1 :])
        return tensor.reshape(shape).movedim(self._place, 0)

    def back(self, tensor: Shaped[Tensor, "samples ..."]) -> Shaped[Tensor, "..."]:
        """Return what `front` was made of."""
        if self.each == 1:
            return tensor.movedim(0, self.axis)
        return tensor.movedim(0, self._place).flatten(self.axis, self.axis + 1)

    @property
    def _place(self) -> int:
        """Axis of the samples once what is folded into them is an axis of its own."""
        return self.axis if self.is_outer else self.axis + 1

    def same_place(self, other: SampleLayout) -> bool:
        """Whether two tensors have their samples along the same axis of as many."""
        mine = (self.axis, self.each, self.is_outer, len(self.shape))
        return mine == (other.axis, other.each, other.is_outer, len(other.shape))


def layouts_of(run: Runner, names: Sequence[str]) -> dict[str, SampleLayout | None]:
    """Return the layout of every tensor whose shape depends on the number of samples.

    None for one that has no such axis, or several.
    """
    one, two = run(names, 1), run(names, 2)
    found: dict[str, SampleLayout | None] = {}
    unclear: list[str] = []
    for name in names:
        single, double = tuple(one[name].shape), tuple(two[name].shape)
        if single == double:
            continue
        axis = _grown_axis(single, double)
        found[name] = None if axis is None else SampleLayout(single, axis, single[axis])
        if axis is not None and single[axis] > 1:
            unclear.append(name)
    for name in unclear:
        layout = found[name]
        assert layout is not None
        found[name] = _ordered(layout, one[name], two[name])
    return found


def _grown_axis(one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    """Return the axis that is twice as long for two samples as for one, if it alone is longer."""
    if len(one) != len(two):
        return None
    axes = [axis for axis, (few, many) in enumerate(zip(one, two, strict=True)) if few != many]
    return axes[0] if len(axes) == 1 and two[axes[0]] == 2 * one[axes[0]] else None


def _ordered(
    layout: SampleLayout, one: Shaped[Tensor, "..."], two: Shaped[Tensor, "..."]
) -> SampleLayout | None:
    """Return the layout whose first sample is what one sample alone gives."""
    for is_outer in (True, False):
        tried = SampleLayout(layout.shape, layout.axis, layout.each, is_outer)
        if is_close(tried.front(two)[:1], tried.front(one)):
            return tried
    return None


def is_close(first: Shaped[Tensor, "*shape"], second: Shaped[Tensor, "*shape"]) -> bool:
    """Return whether tensors are the same up to rounding in float64."""
    if not first.is_floating_point():
        return bool(torch.equal(first, second))
    scale = float(second.abs().max()) if second.numel() else 0.0
    return torch.allclose(first, second, rtol=1e-6, atol=1e-9 * (1.0 + scale))
