"""Maxima over windows.

In every window one element is the reference, the one whose interval has the largest middle. Below
the maximum is the reference itself. Above it are two planes:

- From the elements' own ends. For every t, ``max_i x_i <= t + sum_i max(x_i - t, 0)``, and ``max(x
  - t, 0) <= (u - t) (x - l) / (u - l)`` for l <= x <= u and
  l <= t <= u. At the middles the sum is smallest where t is the second largest of all u_i, but t
  may not be below any l_i.
- From how far elements are above the reference. With y_i = x_i - x_ref between d_i and e_i, ``max_i
  x_i = x_ref + max(0, max_i y_i)``, which is bounded in the same way by
  ``x_ref + t + sum_i (e_i - t) (y_i - d_i) / (e_i - d_i)`` over the rivals, those with e_i > t, for
  t >= 0 and no d_i above t. Neighbours in a plane come from the same devices
  of a kernel, so a backward pass bounds their difference far better than their ends do, and a
  reference without rivals is the maximum itself.

The plane that is lower at the middle is taken.

Derived here. Below: a maximum is no less than any of its elements. Above, the first inequality: the
maximum itself is one of the x_i, so its term makes up for t, and no term is negative. The second:
``max(x - t, 0)`` is convex, so it lies below its chord over [l, u], which is 0 at l as l <= t.
DeepPoly (Singh et al., POPL 2019) takes the largest end as a constant instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import line_radius
from cimrobust.certify.rules.convolution import Columns
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.twin.ops.converter_registry import Kernel, Node
from cimrobust.twin.ops.pool import ceil_excess
from cimrobust.twin.ops.sliding_window import Window


def _below_all(like: Float[Tensor, "..."]) -> float:
    """Return a number that stands for padding.

    Below every activation, in the precision of `like`, and finite in sums of two.
    """
    return torch.finfo(like.dtype).min / 4


@dataclass(frozen=True)
class Contest:
    """Who may be the maximum of a window; every tensor is [samples, channels, taps, positions].

    Attributes:
        lo: Lower ends of the elements; padding is below everything.
        hi: Upper ends.
        reference: One where an element is the reference of its window, else zero.
        least: Lower ends of how far elements are above the reference of their window; the reference
            itself and padding are below everything.
        most: Upper ends.
    """

    lo: Float[Tensor, "samples channels taps positions"]
    hi: Float[Tensor, "samples channels taps positions"]
    reference: Float[Tensor, "samples channels taps positions"]
    least: Float[Tensor, "samples channels taps positions"]
    most: Float[Tensor, "samples channels taps positions"]

    @staticmethod
    def of(
        lo: Float[Tensor, "samples channels taps positions"],
        hi: Float[Tensor, "samples channels taps positions"],
    ) -> Contest:
        """Return what the elements' own ends say."""
        chosen = (lo + hi).max(dim=2, keepdim=True).indices
        reference = torch.zeros_like(lo).scatter_(2, chosen, 1.0)
        below = _below_all(hi)
        out = (reference > 0) | (hi <= below)
        least, most = lo - hi.gather(2, chosen), hi - lo.gather(2, chosen)
        return Contest(
            lo, hi, reference, least.masked_fill(out, below), most.masked_fill(out, below)
        )

    def top(self) -> Float[Tensor, "samples channels positions"]:
        """Return upper ends of the maxima, [samples, channels, positions]."""
        above = self.most.amax(2).clamp(min=0.0)
        return torch.minimum(self.hi.amax(2), (self.reference * self.hi).sum(2) + above)

    def plane(
        self,
    ) -> tuple[
        Float[Tensor, "samples channels taps positions"],
        Float[Tensor, "samples channels positions"],
    ]:
        """Return slopes and shifts of a plane above the maxima.

        Slopes are [samples, channels, taps, positions], shifts [samples, channels, positions].
        """
        own_slope, own_shift = _plane(self.lo, self.hi, self.lo.amax(2, keepdim=True))
        slope, shift = _plane(
            self.least, self.most, self.least.amax(2, keepdim=True).clamp(min=0.0)
        )
        slope = slope + self.reference * (1.0 - slope.sum(2, keepdim=True))
        middle = torch.where(
            self.hi > _below_all(self.hi), 0.5 * (self.lo + self.hi), torch.zeros_like(self.lo)
        )
        lower = (own_slope * middle).sum(2, keepdim=True) + own_shift < (slope * middle).sum(
            2, keepdim=True
        ) + shift
        return torch.where(lower, own_slope, slope), torch.where(lower, own_shift, shift)[:, :, 0]


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
        if data.is_point:
            return Interval.point(lo)
        top = self.contest(data).top().reshape(lo.shape)
        # What float64 is off in planes and differences is an error of the operator like its own,
        # which rounds nothing.
        return Interval.rounded(lo, top, line_radius(1e-3 + self.kernel(data.magnitude)))

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
        return cut.unfold(end, fill=_below_all(end)).reshape(*end.shape[:2], -1, cut.num_positions)


def _plane(
    lo: Float[Tensor, "samples channels taps positions"],
    hi: Float[Tensor, "samples channels taps positions"],
    least: Float[Tensor, "samples channels 1 positions"],
) -> tuple[
    Float[Tensor, "samples channels taps positions"], Float[Tensor, "samples channels 1 positions"]
]:
    """Return slopes and shifts of ``t + sum_i (u_i - t) (x_i - l_i) / (u_i - l_i)``.

    t is the second largest u, but not below `least`.
    """
    second = hi.topk(2, dim=2).values[:, :, 1:] if hi.shape[2] > 1 else least
    level = torch.maximum(second, least)
    passes = (hi > level) & (hi > lo)
    slope = torch.where(
        passes,
        (hi - level) / torch.where(passes, hi - lo, torch.ones_like(lo)),
        torch.zeros_like(lo),
    )
    return slope, level - (slope * torch.where(passes, lo, torch.zeros_like(lo))).sum(
        2, keepdim=True
    )


def max_pool(node: Node, kernel: Kernel) -> MaxPool:
    """MaxPool."""
    taps = tuple(node.get("kernel_shape"))
    if node.wants(1):
        raise CannotBoundError("the places of its maxima are used")
    if len(taps) > 2:
        raise CannotBoundError("pooling over more than three axes is not bounded")
    return MaxPool(kernel, Window.of(node), taps, bool(node.get("ceil_mode", 0)))
