"""Functions that are convex or concave and may be steep: exp, log, square root, reciprocal, square.

A convex function is above each of its tangents and below its chord; a concave one the other way
round (S. Boyd, L. Vandenberghe, "Convex optimization", Cambridge 2004, section 3.1.3). What lies
outside of the domain of a function has no bound: its ends are infinite, so nothing behind it is
certified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import UNIT_FLOAT32, line_radius
from cimrobust.certify.rules.relaxation import Activation, Ends, Lines, chord

if TYPE_CHECKING:
    from cimrobust.certify.rules.rule import Value
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Rounding radius from the magnitudes of output and input.
Error: TypeAlias = Callable[[Ends, Ends], Ends]

#: Roundings of a float32 implementation of a function, above what was measured on onnxruntime; see
#: tests/unit/certify/test_float32.py.
_ROUNDINGS = 16.0
#: Above it exp is infinite in float32: log(2^128) is 88.72.
_MOST_EXPONENT = 88.0
_TINY = 2.0**-120


class Curve(Activation):
    """A function with one curvature over its domain, whatever its slope."""

    def __init__(
        self,
        kernel: Kernel,
        reach: Callable[[Kernel, Ends, Ends], tuple[Ends, Ends]],
        lines: Callable[[Ends, Ends], Lines],
        *,
        error: Error,
        is_rising: bool,
        floor: float | None = None,
    ) -> None:
        """Describe a function; see `Activation`."""
        super().__init__(
            kernel, reach, lines, bends=lambda lo, hi: lo < hi, is_rising=is_rising, floor=floor
        )
        self._error = error

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`; what float64 is off in steep lines grows with their slopes."""
        data = inputs[0]
        assert isinstance(data, Interval)
        lo, hi = self._reach(self._kernel, data.lo, data.hi)
        lines = self.lines(data)
        steepest = torch.maximum(lines.lower_slope.abs(), lines.upper_slope.abs())
        shift = torch.maximum(lines.lower_shift.abs(), lines.upper_shift.abs())
        slack = line_radius(1e-3 + steepest * data.magnitude + shift)
        size = torch.maximum(lo.abs(), hi.abs())
        return self._above_floor(
            Interval.rounded(lo, hi, slack + self._error(size, data.magnitude))
        )


def _relative(size: Ends, _source: Ends) -> Ends:
    return _ROUNDINGS * UNIT_FLOAT32 * size + _TINY


def _of_exponent(size: Ends, source: Ends) -> Ends:
    """An exponent that is rounded once more moves the power by its own magnitude times that."""
    return _ROUNDINGS * UNIT_FLOAT32 * size * (1.0 + source) + _TINY


def _of_logarithm(size: Ends, _source: Ends) -> Ends:
    return _ROUNDINGS * UNIT_FLOAT32 * (1.0 + size)


def between(
    value: Kernel,
    slope: Kernel,
    at: Ends,
    lo: Ends,
    hi: Ends,
    *,
    is_convex: bool,
    valid: Bool[Tensor, "*shape"] | None = None,
) -> Lines:
    """Return the tangent at a point and the chord, the lower of them first.

    Args:
        value: The function.
        slope: Its derivative.
        at: Where the tangent touches, within the interval.
        lo: Lower ends.
        hi: Upper ends.
        is_convex: The function is convex, else concave.
        valid: Where the interval lies in the domain; None: everywhere.
    """
    tangent_slope = slope(at)
    tangent_shift = value(at) - tangent_slope * at
    chord_slope = chord(value(lo), value(hi), lo, hi)
    chord_shift = value(lo) - chord_slope * lo
    below = (tangent_slope, tangent_shift) if is_convex else (chord_slope, chord_shift)
    above = (chord_slope, chord_shift) if is_convex else (tangent_slope, tangent_shift)
    if valid is None:
        return Lines(*below, *above)
    flat, ends = torch.zeros_like(lo), torch.full_like(lo, math.inf)
    return Lines(
        torch.where(valid, below[0], flat),
        torch.where(valid, below[1], -ends),
        torch.where(valid, above[0], flat),
        torch.where(valid, above[1], ends),
    )


def _outside(valid: Bool[Tensor, "*shape"], ends: tuple[Ends, Ends]) -> tuple[Ends, Ends]:
    """Return ends, infinite where the interval leaves the domain."""
    endless = torch.full_like(ends[0], math.inf)
    return torch.where(valid, ends[0], -endless), torch.where(valid, ends[1], endless)


def exponential(_node: Node, kernel: Kernel) -> Curve:
    """Exp; where it is infinite in float32 there is no bound."""

    def reach(run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        low, high = run(lo.clamp(max=_MOST_EXPONENT)), run(hi.clamp(max=_MOST_EXPONENT))
        return low, torch.where(hi <= _MOST_EXPONENT, high, torch.full_like(high, math.inf))

    def lines(lo: Ends, hi: Ends) -> Lines:
        valid = hi <= _MOST_EXPONENT
        low, high = lo.clamp(max=_MOST_EXPONENT), hi.clamp(max=_MOST_EXPONENT)
        # Of a wide interval a tangent further right would fall far below zero.
        at = torch.minimum(0.5 * (low + high), low + 1.0)
        return between(torch.exp, torch.exp, at, low, high, is_convex=True, valid=valid)

    return Curve(kernel, reach, lines, error=_of_exponent, is_rising=True, floor=0.0)


def logarithm(_node: Node, kernel: Kernel) -> Curve:
    """Log of positive numbers."""

    def reach(run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        valid = lo > 0
        low, high = (torch.where(valid, end, torch.ones_like(end)) for end in (lo, hi))
        return _outside(valid, (run(low), run(high)))

    def lines(lo: Ends, hi: Ends) -> Lines:
        valid = lo > 0
        low, high = (torch.where(valid, end, torch.ones_like(end)) for end in (lo, hi))
        at = 0.5 * (low + high)
        return between(torch.log, torch.reciprocal, at, low, high, is_convex=False, valid=valid)

    return Curve(kernel, reach, lines, error=_of_logarithm, is_rising=True)


def square_root(_node: Node, kernel: Kernel) -> Curve:
    """Sqrt of numbers that are not negative."""

    def reach(run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        valid = lo >= 0
        return _outside(valid, (run(lo.clamp(min=0.0)), run(hi.clamp(min=0.0))))

    def lines(lo: Ends, hi: Ends) -> Lines:
        valid, low, high = lo >= 0, lo.clamp(min=0.0), hi.clamp(min=0.0)
        # At zero the tangent is upright: there the constant zero is the function itself.
        at = (0.5 * (low + high)).clamp(min=torch.finfo(lo.dtype).tiny)
        return between(
            torch.sqrt, lambda x: 0.5 * x.rsqrt(), at, low, high, is_convex=False, valid=valid
        )

    return Curve(kernel, reach, lines, error=_relative, is_rising=True)


def reciprocal(_node: Node | None, kernel: Kernel) -> Curve:
    """Reciprocal of numbers of one sign: convex above zero, concave below, falling in both."""

    def domain(lo: Ends, hi: Ends) -> tuple[Bool[Tensor, "*shape"], Ends, Ends, Ends]:
        valid, sign = (lo > 0) | (hi < 0), torch.where(hi < 0, -1.0, 1.0).to(lo.dtype)
        near, far = torch.minimum(lo.abs(), hi.abs()), torch.maximum(lo.abs(), hi.abs())
        one = torch.ones_like(lo)
        return valid, sign, torch.where(valid, near, one), torch.where(valid, far, one)

    def reach(run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        valid, sign, near, far = domain(lo, hi)
        ends = run(sign * near), run(sign * far)
        return _outside(valid, (torch.minimum(*ends), torch.maximum(*ends)))

    def lines(lo: Ends, hi: Ends) -> Lines:
        valid, sign, near, far = domain(lo, hi)
        found = between(
            torch.reciprocal,
            lambda x: -1.0 / (x * x),
            near.sqrt() * far.sqrt(),
            near,
            far,
            is_convex=True,
            valid=valid,
        )
        # 1 / x = -1 / |x| below zero: slopes stay, intercepts change sides and signs.
        above = sign > 0
        return Lines(
            torch.where(above, found.lower_slope, found.upper_slope),
            torch.where(above, found.lower_shift, -found.upper_shift),
            torch.where(above, found.upper_slope, found.lower_slope),
            torch.where(above, found.upper_shift, -found.lower_shift),
        )

    return Curve(kernel, reach, lines, error=_relative, is_rising=False)


def power(exponent: float) -> Curve:
    """Return the rule of a constant power of positive numbers: convex but for powers in (0, 1)."""

    def run(x: Ends) -> Ends:
        return x**exponent

    def at_ends(lo: Ends, hi: Ends) -> tuple[Bool[Tensor, "*shape"], Ends, Ends]:
        valid, one = lo > 0, torch.ones_like(lo)
        return valid, torch.where(valid, lo, one), torch.where(valid, hi, one)

    def reach(_run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        valid, low, high = at_ends(lo, hi)
        ends = run(low), run(high)
        return _outside(valid, (torch.minimum(*ends), torch.maximum(*ends)))

    def lines(lo: Ends, hi: Ends) -> Lines:
        valid, low, high = at_ends(lo, hi)
        at = low.sqrt() * high.sqrt()
        return between(
            run,
            lambda x: exponent * x ** (exponent - 1.0),
            at.clamp(low, high),
            low,
            high,
            is_convex=not 0.0 < exponent < 1.0,
            valid=valid,
        )

    def error(size: Ends, source: Ends) -> Ends:
        # Of an exponential of a logarithm times the exponent, each of a few units in the last
        # place: as large as that product is at either end.
        most = 1.0 + abs(exponent) * source.log().abs() + size.log().abs()
        return _ROUNDINGS * UNIT_FLOAT32 * size * most + _TINY

    return Curve(run, reach, lines, error=error, is_rising=exponent > 0.0)


def square() -> Curve:
    """Return the rule of a tensor times itself, which is never negative in float32 either."""

    def reach(run: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
        ends = run(lo), run(hi)
        least = torch.where((lo < 0) & (hi > 0), torch.zeros_like(lo), torch.minimum(*ends))
        return least, torch.maximum(*ends)

    def lines(lo: Ends, hi: Ends) -> Lines:
        return between(torch.square, lambda x: 2.0 * x, 0.5 * (lo + hi), lo, hi, is_convex=True)

    return Curve(torch.square, reach, lines, error=_relative, is_rising=False, floor=0.0)
