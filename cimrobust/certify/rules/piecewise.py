"""Activation functions of straight pieces: Relu, LeakyRelu, Clip and what is made of them.

References:
    H. Zhang et al., "Efficient neural network robustness certification with general activation
    functions", NeurIPS 2018 (CROWN), section 3.3: the line below a ReLU by area.
    G. Singh, T. Gehr, M. Pueschel, M. Vechev, "An abstract domain for certifying neural networks",
    POPL 2019 (DeepPoly): the same choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import value_radius
from cimrobust.certify.rules.relaxation import Activation, Lines, chord, rising
from cimrobust.certify.rules.rule import Pulled, Value

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node


def leaky_lines(
    slope: float | Float[Tensor, "..."], lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
) -> Lines:
    """Return lines around ``max(x, slope x)``, one slope or one an element.

    The chord above, below the piece that leaves the smaller area (CROWN, section 3.3). Sound: for
    slopes up to 1 the function is convex, so it is below its chord and above each of its pieces.
    """
    above = torch.maximum(lo, slope * lo)
    upper = chord(above, torch.maximum(hi, slope * hi), lo, hi)
    # Two plain numbers would be taken for float32.
    one = torch.ones_like(lo)
    one_piece = torch.where(lo >= 0, one, slope)
    bent = (lo < 0) & (hi > 0)
    upper = torch.where(bent, upper, one_piece)
    lower = torch.where(bent, torch.where(hi > -lo, one, slope), one_piece)
    shift = torch.where(bent, above - upper * lo, torch.zeros_like(lo))
    return Lines(lower, torch.zeros_like(lo), upper, shift)


def clip_lines(
    low: float, high: float, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
) -> Lines:
    """Return lines around ``min(max(x, low), high)``.

    Above: through the end of the interval on the left and the corner at `high`, or the constant
    where that is nearer; below likewise from the right.

    Derived here. The line above has a slope between 0 and 1. Up to `low` the function is constant
    and the line, which starts on it, rises; from there to `high` their difference falls to 0 at the
    corner; behind it the line is above `high`. Below by symmetry. Where lo >= `low` the constant
    leaves the area ``(high - lo)^2 / 2``, the identity ``(hi - high)^2 / 2``; the smaller is taken.
    """
    left, right = lo.clamp(low, high), hi.clamp(low, high)
    straight = chord(left, right, lo, hi)
    is_line = ~clip_bends(low, high, lo, hi)
    over, under = hi > high, lo < low
    # Above: through (lo, f(lo)) and the corner (high, high), where the interval passes that corner;
    # else the chord.
    rise = torch.where(
        over, chord(left, torch.full_like(lo, high), lo, torch.full_like(lo, high)), straight
    )
    rise = torch.where(over & ((hi - high) > (high - lo)), torch.zeros_like(rise), rise)
    rise_shift = torch.where(
        over, torch.where(rise > 0, high * (1 - rise), torch.full_like(lo, high)), left - rise * lo
    )
    # Below: through the corner (low, low) and (hi, f(hi)), where the interval passes that corner.
    fall = torch.where(
        under, chord(torch.full_like(lo, low), right, torch.full_like(lo, low), hi), straight
    )
    fall = torch.where(under & ((low - lo) > (hi - low)), torch.zeros_like(fall), fall)
    fall_shift = torch.where(
        under, torch.where(fall > 0, low * (1 - fall), torch.full_like(lo, low)), left - fall * lo
    )
    flat_shift = left - straight * lo
    return Lines(
        torch.where(is_line, straight, fall),
        torch.where(is_line, flat_shift, fall_shift),
        torch.where(is_line, straight, rise),
        torch.where(is_line, flat_shift, rise_shift),
    )


def clip_bends(
    low: float, high: float, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    """Return where a clipped identity is not one line over an interval."""
    return ((lo < low) & (hi > low)) | ((lo < high) & (hi > high))


def _crosses_zero(
    lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    return (lo < 0) & (hi > 0)


def relu(node: Node, kernel: Kernel) -> Activation:
    """Relu."""
    return Activation(
        kernel, rising, partial(leaky_lines, 0.0), bends=_crosses_zero, least_slope=0.0, floor=0.0
    )


def leaky_relu(node: Node, kernel: Kernel) -> Activation:
    """LeakyRelu."""
    slope = float(node.get("alpha", 0.01))
    if not 0.0 <= slope <= 1.0:
        raise CannotBoundError(f"its slope {slope:g} is not between 0 and 1")
    return Activation(
        kernel,
        rising,
        partial(leaky_lines, slope),
        bends=_crosses_zero,
        rounding=value_radius,
        least_slope=slope,
    )


def absolute(_node: Node, kernel: Kernel) -> Activation:
    """Abs: the larger of x and -x, a ReLU of slope -1, which rounds nothing."""

    def reach(
        run: Kernel, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        ends = run(lo), run(hi)
        least = torch.where(_crosses_zero(lo, hi), torch.zeros_like(lo), torch.minimum(*ends))
        return least, torch.maximum(*ends)

    return Activation(
        kernel, reach, partial(leaky_lines, -1.0), bends=_crosses_zero, is_rising=False, floor=0.0
    )


class PRelu:
    """PRelu with constant slopes between 0 and 1, one or one a channel."""

    def __init__(self, node: Node, kernel: Kernel) -> None:
        self._kernel = kernel
        self._version = node.version

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        return self._with_slopes(inputs).forward(inputs[:1])

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        pulled = self._with_slopes(inputs).backward(form, inputs[:1], output)
        return Pulled((*pulled.coefs, None), pulled.constant)

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """As in `Activation`."""
        return _crosses_zero(data.lo, data.hi)

    def _with_slopes(self, inputs: Sequence[Value]) -> Activation:
        data, slopes = inputs
        if not isinstance(slopes, Tensor) or not bool(((slopes >= 0) & (slopes <= 1)).all()):
            raise CannotBoundError("its slopes are not constants between 0 and 1")
        assert isinstance(data, Interval)
        # Before opset 7 the axes of slopes are the first, not the last.
        if slopes.numel() != 1 and (self._version < 7 or slopes.dim() >= data.lo.dim()):
            raise CannotBoundError("its slopes are not one a channel")
        return Activation(
            lambda x: self._kernel(x, slopes),
            rising,
            partial(leaky_lines, slopes),
            bends=_crosses_zero,
            rounding=value_radius,
        )


class Clip:
    """Clip with constant limits, which are attributes before opset 11 and inputs from then on.

    A limit may be missing.
    """

    def __init__(self, node: Node, kernel: Kernel) -> None:
        self._kernel = kernel
        self._attributes = (float(node.get("min", -math.inf)), float(node.get("max", math.inf)))
        self._rule: Activation | None = None

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        return self._with_limits(inputs).forward(inputs[:1])

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        pulled = self._with_limits(inputs).backward(form, inputs[:1], output)
        return Pulled((*pulled.coefs, *(None for _ in inputs[1:])), pulled.constant)

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """As in `Activation`, once limits are known."""
        return (
            torch.ones_like(data.lo, dtype=torch.bool)
            if self._rule is None
            else self._rule.bends(data)
        )

    def _with_limits(self, inputs: Sequence[Value]) -> Activation:
        if self._rule is None:
            limits = list(self._attributes)
            for index, value in enumerate(inputs[1:3]):
                if value is not None:
                    if not isinstance(value, Tensor) or value.numel() != 1:
                        raise CannotBoundError("its limits are not constant numbers")
                    limits[index] = float(value)
            # A limit far beyond float32 stands for none: lines may not hold infinities.
            high = min(limits[1], 1e39)
            # Where the lower limit is above the upper one, all is at the upper one.
            low = min(max(limits[0], -1e39), high)
            if low == 0.0 and high == 1e39:
                self._rule = Activation(
                    torch.relu, rising, partial(leaky_lines, 0.0), bends=_crosses_zero, floor=0.0
                )
            else:
                self._rule = Activation(
                    lambda x: x.clamp(low, high),
                    rising,
                    partial(clip_lines, low, high),
                    bends=partial(clip_bends, low, high),
                    floor=low,
                )
        return self._rule


def hard_sigmoid(node: Node, kernel: Kernel) -> Activation:
    """HardSigmoid: clip(alpha x + beta, 0, 1), alpha > 0."""
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if alpha <= 0:
        raise CannotBoundError(f"its slope {alpha:g} is not positive")

    def lines(lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]) -> Lines:
        inner = clip_lines(0.0, 1.0, alpha * lo + beta, alpha * hi + beta)
        return Lines(
            alpha * inner.lower_slope,
            inner.lower_slope * beta + inner.lower_shift,
            alpha * inner.upper_slope,
            inner.upper_slope * beta + inner.upper_shift,
        )

    def bends(lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        return clip_bends(0.0, 1.0, alpha * lo + beta, alpha * hi + beta)

    return Activation(
        kernel,
        rising,
        lines,
        bends=bends,
        rounding=lambda size: value_radius(alpha * size + abs(beta)),
    )
