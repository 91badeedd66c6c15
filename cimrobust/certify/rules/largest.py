"""Maxima and minima over whole axes: ReduceMax, ReduceMin, GlobalMaxPool.

A maximum over axes is that of one window, so the planes of `certify.rules.contest` bound it; a
minimum is the maximum of negated elements, negated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import line_radius
from cimrobust.certify.rules.contest import Contest
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.twin.ops.converter_registry import Kernel, Node


@dataclass(frozen=True)
class Largest:
    """The largest (sign 1) or smallest (sign -1) element over axes.

    Attributes:
        kernel: Computes the operator.
        sign: Which.
        axes: The axes; None: an input says which, or all behind the first `leading`.
        leading: Axes that stay where nothing says which go.
    """

    kernel: Kernel
    sign: int
    axes: tuple[int, ...] | None
    leading: int

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`; it rounds nothing."""
        data, axes = self._read(inputs)
        lo = self.kernel(data.lo, *inputs[1:])
        if data.is_point:
            return Interval.point(lo)
        top = (self.sign * self._contest(data, axes).top()).reshape(lo.shape)
        other = self.kernel(data.hi, *inputs[1:])
        least, most = (
            (lo, torch.minimum(top, other)) if self.sign > 0 else (torch.maximum(top, lo), other)
        )
        rounding = line_radius(1e-3 + torch.maximum(least.abs(), most.abs()))
        spread = data.magnitude.amax(axes, keepdim=True).reshape(lo.shape)
        return Interval.rounded(least, most, rounding + line_radius(spread))

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        data, axes = self._read(inputs)
        contest = self._contest(data, axes)
        slope, shift = contest.plane()
        flat = self.sign * form.reshape(*form.shape[:2], 1, 1, -1)
        plus, minus = flat.clamp(min=0), flat.clamp(max=0)
        columns = self.sign * (plus * contest.reference + minus * slope)
        kept = [size for axis, size in enumerate(data.lo.shape) if axis not in axes]
        gone = [data.lo.shape[axis] for axis in axes]
        pulled = (
            columns[:, :, 0]
            .transpose(-1, -2)
            .reshape(len(form), *kept, *gone)
            .movedim(
                tuple(range(1 + len(kept), 1 + len(kept) + len(gone))),
                tuple(axis + 1 for axis in axes),
            )
        )
        coefs = (pulled, *(None for _ in inputs[1:]))
        return Pulled(coefs, total(minus[:, :, :, 0], shift))

    def _contest(self, data: Interval, axes: tuple[int, ...]) -> Contest:
        if self not in data.kept:
            ends = (data.lo, data.hi) if self.sign > 0 else (-data.hi, -data.lo)
            data.kept[self] = Contest.of(*(_one_window(end, axes) for end in ends))
        contest: Contest = data.kept[self]
        return contest

    def _read(self, inputs: Sequence[Value]) -> tuple[Interval, tuple[int, ...]]:
        """Return the data and the axes that go, ascending."""
        data, given = inputs[0], inputs[1] if len(inputs) > 1 else None
        assert isinstance(data, Interval)
        if isinstance(given, Interval):
            raise CannotBoundError("its axes are not constant")
        rank = data.lo.dim()
        axes = self.axes if given is None else tuple(int(axis) for axis in given.reshape(-1))
        if axes is None:
            axes = tuple(range(self.leading, rank))
        axes = tuple(sorted(axis % rank for axis in axes))
        if not axes or axes[0] == 0:
            raise CannotBoundError("it is taken over the samples, or over no axis")
        return data, axes


def _one_window(
    end: Float[Tensor, "samples *units"], axes: tuple[int, ...]
) -> Float[Tensor, "samples 1 taps positions"]:
    """Return the elements of every maximum along one axis."""
    last = end.movedim(axes, tuple(range(-len(axes), 0)))
    rows = last.flatten(last.dim() - len(axes))
    return rows.reshape(len(end), 1, -1, rows.shape[-1]).transpose(-1, -2)


def largest(node: Node, kernel: Kernel) -> Largest:
    """ReduceMax, ReduceMin and GlobalMaxPool.

    Raises:
        CannotBoundError: It does nothing where no axis is named.
    """
    if node.get("noop_with_empty_axes", 0):
        raise CannotBoundError("it may do nothing, as its axes say")
    axes = node.get("axes")
    leading = 2 if node.op == "GlobalMaxPool" else 0
    sign = -1 if node.op == "ReduceMin" else 1
    return Largest(kernel, sign, None if axes is None else tuple(axes), leading)
