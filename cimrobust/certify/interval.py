"""Intervals of tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """A tensor between two others, element by element.

    Attributes:
        lo: Lower ends, float64; samples first, except for weights.
        hi: Upper ends.
        rounding: Radius of the rounding error of the operator that made it, inside `lo` and `hi` already; None: it is exact.
        kept: What rules worked out from it, by rule.
    """

    lo: Tensor
    hi: Tensor
    rounding: Tensor | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def rounded(lo: Tensor, hi: Tensor, rounding: Tensor) -> Interval:
        """Return the interval widened by a rounding radius."""
        return Interval(lo - rounding, hi + rounding, rounding)

    @staticmethod
    def point(value: Tensor) -> Interval:
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
    def middle(self) -> Tensor:
        """Centre of every element."""
        return self.lo if self.lo is self.hi else 0.5 * (self.lo + self.hi)

    @cached_property
    def radius(self) -> Tensor:
        """Half width of every element."""
        return torch.zeros_like(self.lo) if self.lo is self.hi else 0.5 * (self.hi - self.lo)

    @cached_property
    def magnitude(self) -> Tensor:
        """Largest absolute value of every element."""
        return torch.maximum(self.lo.abs(), self.hi.abs())

    def moved(self, move: Callable[[Tensor], Tensor]) -> Interval:
        """Return the interval of a tensor with the same elements in other places."""
        lo = move(self.lo)
        return Interval(lo, lo if self.lo is self.hi else move(self.hi))

    def within(self, lo: Tensor, hi: Tensor) -> Interval:
        """Return the part that lies in another interval as well.

        Both hold the true value, so they overlap; where rounding makes them miss each other, the own ends are kept.
        """
        least, most = torch.maximum(self.lo, lo), torch.minimum(self.hi, hi)
        sane = least <= most
        return Interval(torch.where(sane, least, self.lo), torch.where(sane, most, self.hi), self.rounding)


def chord_of_absolute(middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and intercept of a line above ``|x|`` for x within a radius of a middle: ``|x| <= slope x + intercept``.

    The line goes through both ends. Where the sign of x is known it is ``|x|`` itself: slope 1 or -1, intercept 0.
    """
    slope = (middle / radius).nan_to_num_(nan=0.0).clamp_(-1.0, 1.0)
    return slope, (radius - middle * slope).clamp_(min=0.0)
