"""Maxima over windows: MaxPool; the planes are those of `certify.rules.contest`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import line_radius
from cimrobust.certify.rules.contest import Contest, below_all
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.certify.rules.window_columns import Columns
from cimrobust.twin.ops.converter_registry import Kernel, Node
from cimrobust.twin.ops.sliding_window import Window, ceil_excess

_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class MaxPool:
    """MaxPool over one or two axes.

    Attributes:
        kernel: Computes the operator.
        window: Strides, dilations and padding.
        taps: Size of the window.
        reaches_over: The last window may reach behind the padding, as ceil_mode says.
    """

    kernel: Kernel
    window: Window
    taps: tuple[int, ...]
    reaches_over: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether taps are neighbours; then no window lies in the padding alone."""
        return all(gap == 1 for gap in self.window.gaps(len(self.taps)))

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data = inputs[0]
        assert isinstance(data, Interval)
        lo = self.kernel(data.lo)
        if data.is_point and data.is_moderate:
            return Interval.point(lo)
        # Engines begin with the lowest float: nothing is below it, not even minus infinity.
        top = self.contest(data).top().reshape(lo.shape).clamp(min=_LOWEST)
        size = self.kernel(data.magnitude).clamp(min=0.0)
        # What float64 is off in planes and differences is an error of the operator like its own,
        # which rounds nothing.
        return Interval.rounded(lo, top, line_radius(1e-3 + size))

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        data = inputs[0]
        assert isinstance(data, Interval)
        cut, contest = self._columns(data), self.contest(data)
        slope, shift = contest.plane()
        flat = form.reshape(*form.shape[:2], slope.shape[1], 1, -1)
        plus, minus = flat.clamp(min=0), flat.clamp(max=0)
        columns = plus * contest.reference + minus * slope
        pulled = cut.fold(columns.flatten(0, 1).flatten(1, 2)).reshape(
            form.shape[0], *data.lo.shape
        )
        return Pulled((pulled,), total(minus[:, :, :, 0], shift))

    def contest(self, data: Interval) -> Contest:
        """Return who may be the maxima, worked out once, or narrowed since."""
        if self not in data.kept:
            data.kept[self] = Contest.of(*(self._windows(data, end) for end in (data.lo, data.hi)))
        contest: Contest = data.kept[self]
        return contest

    def places(self, data: Interval) -> Int64[Tensor, "channels taps positions"]:
        """Return where the elements of windows are in a flat plane with its channels.

        Int64 [channels, taps, positions]; -1 in the padding.
        """
        numbers = torch.arange(data.lo[0].numel(), dtype=torch.float64).reshape(
            1, *data.lo.shape[1:]
        )
        cut = self._columns(data)
        return (
            cut.unfold(numbers, fill=-1.0).reshape(data.lo.shape[1], -1, cut.num_positions).long()
        )

    def _columns(self, data: Interval) -> Columns:
        size, window = data.lo.shape[2:], self.window
        if self.reaches_over:
            begins, ends = window.padding(size, self.taps)
            excess = ceil_excess(size, self.taps, window, begins, ends)
            pads = (*begins, *(end + more for end, more in zip(ends, excess, strict=True)))
            window = Window(window.strides, window.dilations, pads, "NOTSET")
        return Columns.of(window, size, self.taps)

    def _windows(
        self, data: Interval, end: Float[Tensor, "samples channels *plane"]
    ) -> Float[Tensor, "samples channels taps positions"]:
        cut = self._columns(data)
        return cut.unfold(end, fill=below_all(end)).reshape(*end.shape[:2], -1, cut.num_positions)


def max_pool(node: Node, kernel: Kernel) -> MaxPool:
    """MaxPool."""
    taps = tuple(node.get("kernel_shape"))
    if node.wants(1):
        raise CannotBoundError("the places of its maxima are used")
    if len(taps) > 2:
        raise CannotBoundError("pooling over more than three axes is not bounded")
    return MaxPool(kernel, Window.of(node), taps, bool(node.get("ceil_mode", 0)))
