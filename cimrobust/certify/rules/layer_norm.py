"""Normalisation of the last axes of a sample.

Layer normalisation, and scaling to a root mean square of 1.

With ``c = x - mean(x)`` (or ``c = x``) and ``r = 1 / sqrt(mean(c^2) + epsilon)``, ``y = gain r c +
shift``. c is linear in x, so its range over a box is known exactly, and bounds ``mean(c^2)`` from
both sides; with r within s ± d, ``r c = s c + (r - s) c`` and the last term is at most ``d
max|c|``. Where that is further off than the range of ``r c``, the ends of the range are taken.

Derived here. ``c_i = (1 - 1/n) x_i - sum over j != i of x_j / n``, so with q the radius of x that
of c_i is ``(1 - 1/n) q_i + sum over j != i of q_j / n = q_i + mean(q) - 2 q_i / n``, and some x of
the box reaches it. ``|r c_i| <= sqrt(n)``, as ``c_i^2 <= n mean(c^2)``; where c is centred ``sqrt(n
- 1)``.

References:
    P. A. Samuelson, "How deviant can you be?", JASA 63, 1968 (the limit sqrt(n - 1)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import (
    UNIT_FLOAT32,
    line_radius,
    mean_radius,
    product_radius,
    value_radius,
)
from cimrobust.certify.rules.rule import Pulled, Value, total

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Largest relative error of a variance for which the first-order estimate of the error of its root
#: holds.
_MOST_RELATIVE = 0.25


@dataclass(frozen=True)
class _Unit:
    """What is known of ``r c`` before gain and shift.

    Attributes:
        centre: Middle of c.
        reach: Largest magnitude of c.
        slope: Middle of r.
        spread: Half width of r.
        lo: Lower end of r c.
        hi: Upper end.
        error: Radius of the rounding error of r c.
    """

    centre: Float[Tensor, "samples *units"]
    reach: Float[Tensor, "samples *units"]
    slope: Float[Tensor, "samples *groups"]
    spread: Float[Tensor, "samples *groups"]
    lo: Float[Tensor, "samples *units"]
    hi: Float[Tensor, "samples *units"]
    error: Float[Tensor, "samples *units"]


@dataclass(frozen=True)
class LayerNorm:
    """Normalisation over the axes from one on.

    Attributes:
        axis: The first of the axes.
        epsilon: What is added to the mean of squares.
        is_centred: The mean is subtracted first.
    """

    axis: int
    epsilon: float
    is_centred: bool

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data, gain, shift = self._parts(inputs)
        unit = self._unit(data)
        ends = unit.lo * gain, unit.hi * gain
        magnitude = torch.maximum(unit.lo.abs(), unit.hi.abs()) * gain.abs()
        rounding = (
            unit.error * gain.abs()
            + value_radius(magnitude + shift.abs())
            + line_radius(1e-3 + magnitude)
        )
        return Interval.rounded(
            torch.minimum(*ends) + shift, torch.maximum(*ends) + shift, rounding
        )

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        data, gain, shift = self._parts(inputs)
        unit = self._unit(data)
        scaled = form * gain
        off, half = unit.spread * unit.reach, 0.5 * (unit.hi - unit.lo)
        linear = off < half
        on_centred = scaled * torch.where(linear, unit.slope.expand_as(off), torch.zeros_like(off))
        # Where the ends are taken, their middle is no multiple of c.
        fixed = torch.where(linear, torch.zeros_like(off), 0.5 * (unit.hi + unit.lo))
        constant = (
            total(form, shift.expand_as(fixed))
            + total(scaled, fixed)
            - total(scaled.abs(), torch.where(linear, off, half))
        )
        axes = self._axes(on_centred.dim() - 1, leading=1)
        pulled = on_centred - on_centred.mean(axes, keepdim=True) if self.is_centred else on_centred
        return Pulled((pulled, *(None for _ in inputs[1:])), constant)

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """Return where narrowing helps: everywhere."""
        return data.lo < data.hi

    def _axes(self, rank: int, leading: int = 0) -> tuple[int, ...]:
        start = self.axis % rank
        if start == 0:
            raise CannotBoundError("it is taken over the samples")
        return tuple(range(start + leading, rank + leading))

    def _parts(
        self, inputs: Sequence[Value]
    ) -> tuple[Interval, Float[Tensor, "..."], Float[Tensor, "..."]]:
        data, gain, shift = [*inputs, None, None][:3]
        if (
            not isinstance(data, Interval)
            or isinstance(gain, Interval)
            or isinstance(shift, Interval)
        ):
            raise CannotBoundError("its parameters are not constant")
        one = torch.ones((), dtype=data.lo.dtype)
        return data, one if gain is None else gain, 0.0 * one if shift is None else shift

    def _unit(self, data: Interval) -> _Unit:
        """Return what is known before gain and shift, worked out once for an interval."""
        if self not in data.kept:
            data.kept[self] = self._bounded(data)
        unit: _Unit = data.kept[self]
        return unit

    def _bounded(self, data: Interval) -> _Unit:
        axes = self._axes(data.lo.dim())
        count = math.prod(data.lo.shape[axis] for axis in axes)
        centre, radius = data.middle, data.radius
        if self.is_centred:
            centre = centre - centre.mean(axes, keepdim=True)
            radius = radius + radius.mean(axes, keepdim=True) - 2.0 * radius / count
        lo, hi = centre - radius, centre + radius
        reach = torch.maximum(lo.abs(), hi.abs())
        nearest = torch.where(
            (lo < 0) & (hi > 0), torch.zeros_like(lo), torch.minimum(lo.abs(), hi.abs())
        )
        least, most = (
            (part * part).mean(axes, keepdim=True) + self.epsilon for part in (nearest, reach)
        )
        steepest, flattest = least.rsqrt(), most.rsqrt()
        limit = math.sqrt(max(count - 1, 0) if self.is_centred else count)
        low = (lo * torch.where(lo < 0, steepest, flattest)).clamp(-limit, limit)
        high = (hi * torch.where(hi > 0, steepest, flattest)).clamp(-limit, limit)
        error = self._error(data, axes, count, steepest, torch.maximum(low.abs(), high.abs()))
        return _Unit(
            centre,
            reach,
            0.5 * (steepest + flattest),
            0.5 * (steepest - flattest),
            low,
            high,
            error,
        )

    def _error(
        self,
        data: Interval,
        axes: tuple[int, ...],
        count: int,
        steepest: Float[Tensor, "samples *groups"],
        size: Float[Tensor, "samples *units"],
    ) -> Float[Tensor, "samples *units"]:
        """Return the rounding radius of ``r c``.

        Of c, and of the mean of squares, summed as squares of c or as the difference of two means.
        """
        largest = data.magnitude.amax(axes, keepdim=True)
        squares = (data.magnitude * data.magnitude).mean(axes, keepdim=True)
        of_centre = product_radius(2.0 * largest, count)
        of_squares = (
            4.0 * mean_radius(squares, count) + (2.0 * squares.sqrt() + of_centre) * of_centre
        )
        # To first order a relative error e of a root's argument moves it by e / 2; for e up to 1/4
        # (1 - e)^-1/2 - 1 < e, which is what is charged.
        relative = of_squares * steepest * steepest
        error = 1.5 * steepest * of_centre + size * (relative + 8.0 * UNIT_FLOAT32)
        return torch.where(relative <= _MOST_RELATIVE, error, torch.full_like(error, math.inf))


def layer_norm(node: Node, _kernel: Kernel) -> LayerNorm:
    """LayerNormalization."""
    return LayerNorm(int(node.get("axis", -1)), float(node.get("epsilon", 1e-5)), is_centred=True)


def rms_norm(node: Node, _kernel: Kernel) -> LayerNorm:
    """RMSNormalization."""
    return LayerNorm(int(node.get("axis", -1)), float(node.get("epsilon", 1e-5)), is_centred=False)
