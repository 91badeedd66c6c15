"""Maxima over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.base import Pulled, Value, total
from cimrobust.certify.rules.convolution import Columns
from cimrobust.graph.ops.registry import Kernel, Node
from cimrobust.graph.ops.window import Window

_BELOW_ALL = -1e300


@dataclass(frozen=True)
class MaxPool:
    """MaxPool over one or two axes.

    Below: the element with the largest lower end. Above: that element too where no other can pass it, else the line
    ``max <= m + sum_i u_i - m (x_i - l_i) / (u_i - l_i)`` over the elements whose upper end u_i passes the largest lower end m, if that is nearer at the middle than
    the largest upper end.

    Attributes:
        kernel: Computes the operator.
        window: Strides, dilations and padding.
        taps: Size of the window.
    """

    kernel: Kernel
    window: Window
    taps: tuple[int, ...]

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data = inputs[0]
        assert isinstance(data, Interval)
        return Interval(self.kernel(data.lo), self.kernel(data.hi))

    def backward(self, form: Tensor, inputs: Sequence[Value], output: Interval) -> Pulled:
        """As in `Rule`."""
        data = inputs[0]
        assert isinstance(data, Interval)
        cut = Columns.of(self.window, data.lo.shape[2:], self.taps)
        low, high = (self._windows(cut, end) for end in (data.lo, data.hi))
        best, first = low.max(dim=2, keepdim=True)
        upper_slope, upper_shift = _line_above(low, high, best, first)
        chosen = torch.zeros_like(low).scatter_(2, first, 1.0)
        flat = form.reshape(*form.shape[:2], *low.shape[1:2], 1, -1)
        plus, minus = flat.clamp(min=0), flat.clamp(max=0)
        columns = plus * chosen + minus * upper_slope
        pulled = cut.fold(columns.flatten(0, 1).flatten(1, 2)).reshape(form.shape[0], *data.lo.shape)
        return Pulled((pulled,), total(minus, upper_shift))

    def _windows(self, cut: Columns, end: Tensor) -> Tensor:
        """Return [samples, channels, taps, positions]; padding is below everything."""
        return cut.unfold(end, fill=_BELOW_ALL).reshape(*end.shape[:2], -1, cut.num_positions)


def _line_above(low: Tensor, high: Tensor, best: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes [samples, channels, taps, positions] and shift [samples, channels, 1, positions] of a line above the maximum."""
    passes = high > best
    rival = high.scatter(2, first, _BELOW_ALL).amax(2, keepdim=True)
    dominated = rival <= best
    width = torch.where(passes & (high > low), high - low, torch.ones_like(low))
    slope = torch.where(passes & (high > low), (high - best) / width, torch.zeros_like(low))
    # An element that is a point above all lower ends cannot be: its lower end would be among them.
    shift = best - (slope * low).sum(2, keepdim=True)
    top = high.amax(2, keepdim=True)
    flat = (slope * 0.5 * (low + high)).sum(2, keepdim=True) + shift > top
    slope = torch.where(flat, torch.zeros_like(slope), slope)
    shift = torch.where(flat, top, shift)
    only = torch.zeros_like(low).scatter_(2, first, 1.0)
    return torch.where(dominated, only, slope), torch.where(dominated, torch.zeros_like(shift), shift)


def max_pool(node: Node, kernel: Kernel) -> MaxPool:
    """MaxPool."""
    taps = tuple(node.get("kernel_shape"))
    if node.wants(1):
        raise CannotBoundError("the places of its maxima are used")
    if len(taps) > 2 or node.get("ceil_mode", 0):
        raise CannotBoundError("pooling over three axes, or with ceil_mode, is not bounded")
    return MaxPool(kernel, Window.of(node), taps)
