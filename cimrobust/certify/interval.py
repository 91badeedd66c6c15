"""Intervals of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int8, Int64, Shaped
from torch import Tensor

from cimrobust.certify.rounding import MOST_FLOAT32

#: Smaller radii are none: dividing by them would leave float64.
_LEAST_RADIUS = 1e-250


@dataclass(frozen=True)
class Interval:
    """A tensor between two others, element by element.

    Attributes:
        lo: Lower ends, float64; samples first, except for weights.
        hi: Upper ends.
        rounding: Radius of the rounding error of the operator that made it, inside `lo` and `hi`
            already; None: it is exact.
        corners: Of a product whose weights are used once, and of what is shifted or moved from it:
            the largest value that an element has on chips with its own
            weights at their lower corner, and the smallest on chips with its own weights at their
            upper corner; None: nothing better than `hi` and `lo` is known.
        kept: What rules worked out from it, by rule.
    """

    lo: Float[Tensor, "*shape"]
    hi: Float[Tensor, "*shape"]
    rounding: Float[Tensor, "*shape"] | None = None
    corners: tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]] | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def rounded(
        lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"], rounding: Float[Tensor, "*shape"]
    ) -> Interval:
        """Return the interval widened by a rounding radius.

        Minus infinity, which masks hold, is rounded by nothing.
        """
        if not math.isfinite(float(rounding.detach().sum())):
            rounding = rounding.masked_fill(hi == -math.inf, 0.0)
        return Interval(lo - rounding, hi + rounding, rounding)

    def known(self) -> Interval:
        """Return the interval with infinite ends where its own are no numbers of float32.

        Arithmetic on infinite ends gave NaN, and comparisons with that are false, so that a rule
        could take it for a number; or an end lies beyond the largest float32, where the deployed
        value is infinite.
        """
        if self.is_moderate:
            return self
        low = self.lo.isnan() | (self.lo < -MOST_FLOAT32)
        high = self.hi.isnan() | (self.hi > MOST_FLOAT32)
        rounding = torch.zeros_like(self.lo) if self.rounding is None else self.rounding
        made = Interval(self.lo.masked_fill(low, -math.inf), self.hi.masked_fill(high, math.inf))
        # An infinite radius keeps forms from being pulled back through what may be infinite.
        return replace(
            made,
            rounding=rounding.nan_to_num(nan=math.inf).masked_fill(made.unknown, math.inf),
            corners=None if bool(made.unknown.any()) else self.corners,
        )

    def unknown_at(self, places: Bool[Tensor, "*shape"]) -> Interval:
        """Return the interval with nothing known at some places."""
        rounding = torch.zeros_like(self.lo) if self.rounding is None else self.rounding
        return Interval(
            self.lo.masked_fill(places, -math.inf),
            self.hi.masked_fill(places, math.inf),
            rounding.masked_fill(places, math.inf),
        )

    @cached_property
    def is_moderate(self) -> bool:
        """Whether all ends are numbers of float32, none of them near the largest one."""
        return float((self.lo.detach().abs() + self.hi.detach().abs()).sum()) < MOST_FLOAT32

    @cached_property
    def unknown(self) -> Bool[Tensor, "*shape"]:
        """Where an end is infinite, so that the deployed value may be, or may be no number.

        Minus infinity itself, which masks hold, is a value like others.
        """
        return ~(self.lo.isfinite() & self.hi.isfinite()) & (self.hi > -math.inf)

    @staticmethod
    def point(value: Float[Tensor, "*shape"]) -> Interval:
        """Return the interval that holds one value."""
        return Interval(value, value)

    @cached_property
    def is_point(self) -> bool:
        """Whether every element is known exactly."""
        return self.lo is self.hi or bool(torch.equal(self.lo, self.hi))

    @cached_property
    def is_nonnegative(self) -> bool:
        """Whether no element can be negative."""
        return bool((self.lo >= 0).all())

    @cached_property
    def middle(self) -> Float[Tensor, "*shape"]:
        """Centre of every element."""
        return self.lo if self.lo is self.hi else 0.5 * (self.lo + self.hi)

    @cached_property
    def radius(self) -> Float[Tensor, "*shape"]:
        """Half width of every element."""
        return torch.zeros_like(self.lo) if self.lo is self.hi else 0.5 * (self.hi - self.lo)

    @cached_property
    def magnitude(self) -> Float[Tensor, "*shape"]:
        """Largest absolute value of every element."""
        return torch.maximum(self.lo.abs(), self.hi.abs())

    def moved(self, move: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]) -> Interval:
        """Return the interval of a tensor with the same elements in other places."""
        lo = move(self.lo)
        return Interval(lo, lo if self.lo is self.hi else move(self.hi))

    def within(self, other: Interval) -> Interval:
        """Return the part that lies in another interval as well.

        Both hold the true value, so they overlap; where rounding makes them miss each other, the
        own ends are kept.
        """
        least, most = torch.maximum(self.lo, other.lo), torch.minimum(self.hi, other.hi)
        sane = least <= most
        corners = self.corners
        if corners is not None and other.corners is not None:
            corners = (
                torch.minimum(corners[0], other.corners[0]),
                torch.maximum(corners[1], other.corners[1]),
            )
        return Interval(
            torch.where(sane, least, self.lo),
            torch.where(sane, most, self.hi),
            self.rounding,
            corners,
        )

    def of_sign(self, signs: Int8[Tensor, "samples *units"]) -> Interval:
        """Return the part where elements are not negative (sign 1) or not positive (sign -1).

        Elements that have one sign alone stay as they are.
        """
        straddles = (self.lo < 0) & (self.hi > 0)
        zero = torch.zeros_like(self.lo)
        lo = torch.where(straddles & (signs > 0), zero, self.lo)
        return Interval(
            lo, torch.where(straddles & (signs < 0), zero, self.hi), self.rounding, self.corners
        )

    def part(self, samples: Int64[Tensor, "samples"]) -> Interval:
        """Return the interval of some samples."""
        corners = (
            None if self.corners is None else (self.corners[0][samples], self.corners[1][samples])
        )
        return Interval(
            self.lo[samples],
            self.hi[samples],
            None if self.rounding is None else self.rounding[samples],
            corners,
        )

    def lower_side(self) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return the ends of the values with an element's own weights at their lower corner.

        The values are those on such chips; no chip has smaller ones.
        """
        if self.corners is None:
            return self.lo, self.hi
        return self.lo, torch.maximum(torch.minimum(self.corners[0], self.hi), self.lo)

    def upper_side(self) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return the ends of the values with an element's own weights at their upper corner.

        The values are those on such chips; no chip has larger ones.
        """
        if self.corners is None:
            return self.lo, self.hi
        return torch.minimum(torch.maximum(self.corners[1], self.lo), self.hi), self.hi


def flat(tensor: Shaped[Tensor, "..."], leading: int = 1) -> Shaped[Tensor, "..."]:
    """Return a tensor with the axes behind the leading ones made one.

    Where there are none, one of one element (a score a sample has no axis of its own).
    """
    return tensor.reshape(*tensor.shape[:leading], math.prod(tensor.shape[leading:]))


def chord_of_absolute(
    middle: Float[Tensor, "*shape"], radius: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return slope and intercept of a line above ``|x|`` for x within a radius of a middle.

    ``|x| <= slope x + intercept``.

    The line goes through both ends. Where the sign of x is known it is ``|x|`` itself: slope 1 or
    -1, intercept 0.

    Derived here: ``|x|`` is convex, so it lies below the chord between m - r and m + r. Where these
    have different signs the slope is ``((m + r) - (r - m)) / 2r = m / r``, and the chord passes
    ``m + r`` at ``m + r``, so the intercept is ``(m + r)(1 - m / r) = r - m^2 / r``.
    """
    slope = (middle / radius.clamp(min=_LEAST_RADIUS)).clamp(-1.0, 1.0)
    return slope, (radius - middle * slope).clamp(min=0.0)
