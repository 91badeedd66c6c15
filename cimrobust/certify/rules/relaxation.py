"""Lines below and above an activation function, and the rule that uses them.

A form with coefficient A on f(x) is at least ``A l(x)`` where A >= 0 and l is the line below, and
``A u(x)`` where A < 0 and u is the line above (H. Zhang et al., "Efficient neural network
robustness certification with general activation functions", NeurIPS 2018, theorem 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import line_radius
from cimrobust.certify.rules.rule import Pulled, Value, total

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel

#: One end of an interval, a slope or an intercept: any shape, the same for all of a call.
Ends: TypeAlias = Float[Tensor, "*shape"]


@dataclass(frozen=True)
class Lines:
    """Linear bounds of a function f over an interval, element by element.

    ``lower_slope x + lower_shift <= f(x) <= upper_slope x + upper_shift`` for every x of the
    interval.
    """

    lower_slope: Float[Tensor, "*shape"]
    lower_shift: Float[Tensor, "*shape"]
    upper_slope: Float[Tensor, "*shape"]
    upper_shift: Float[Tensor, "*shape"]


class Activation:
    """An elementwise function of one activation."""

    def __init__(
        self,
        kernel: Kernel,
        reach: Callable[[Kernel, Ends, Ends], tuple[Ends, Ends]],
        lines: Callable[[Ends, Ends], Lines],
        *,
        bends: Callable[[Ends, Ends], Bool[Tensor, "*shape"]],
        rounding: Callable[[Ends], Ends] | None = None,
        least_slope: float | None = None,
        is_rising: bool = True,
        floor: float | None = None,
    ) -> None:
        """Describe a function.

        Args:
            kernel: The function.
            reach: Range of the function over an interval.
            lines: Lines below and above it over an interval, exact up to a few roundings.
            bends: Where the function is not one line over an interval.
            rounding: Rounding radius of the function in float32, from the magnitude of its input;
                None: it rounds nothing.
            is_rising: It never falls, nor do its lines.
            floor: Value that no output of the deployed float32 function is below; None: none is
                known.
            least_slope: Where it bends, any line through the origin from this slope up to 1 is
                below it; None: it has one line below alone.
        """
        self._kernel = kernel
        self._reach = reach
        self._draw = lines
        self._bends = bends
        self._is_rising = is_rising
        self.least_slope = least_slope
        self._floor = floor
        self._rounding = rounding

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data = inputs[0]
        assert isinstance(data, Interval)
        lo, hi = self._reach(self._kernel, data.lo, data.hi)
        # What float64 is off in the lines is an error of the operator like its own.
        slack = line_radius(1e-3 + data.magnitude)
        made = Interval.rounded(
            lo, hi, slack if self._rounding is None else slack + self._rounding(data.magnitude)
        )
        return self._above_floor(made)

    def _above_floor(self, made: Interval) -> Interval:
        """Return an interval without what the deployed function never gives.

        The slack is about lines in float64; the deployed value itself stays above the floor, and
        what follows a ReLU may count on that.
        """
        if self._floor is None:
            return made
        return replace(made, lo=made.lo.clamp(min=self._floor), kept={})

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
        lower_slope: Float64[Tensor, "forms samples *units"] | None = None,
    ) -> Pulled:
        """As in `Rule`.

        With other slopes of the lines below, [forms, samples, ...], where they are free to choose.
        """
        data = inputs[0]
        assert isinstance(data, Interval)
        lines = self.lines(data)
        # Multiplying an inequality by a negative number turns it round: hence two lines.
        plus, minus = form.clamp(min=0), form.clamp(max=0)
        pulled = (
            plus * (lines.lower_slope if lower_slope is None else lower_slope)
            + minus * lines.upper_slope
        )
        constant = total(plus, lines.lower_shift) + total(minus, lines.upper_shift)
        return Pulled((pulled, *(None for _ in inputs[1:])), constant)

    def lines(self, data: Interval) -> Lines:
        """Return the lines over an interval, drawn once: many backward passes ask for the same."""
        if self not in data.kept:
            below, above = (self._draw(*ends) for ends in self._sides(data))
            data.kept[self] = Lines(
                below.lower_slope, below.lower_shift, above.upper_slope, above.upper_shift
            )
        lines: Lines = data.kept[self]
        return lines

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """Return where one of the two lines is not the function itself."""
        below, above = self._sides(data)
        return self._bends(*below) | self._bends(*above)

    def bends_below(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """Return where the line below is not the function itself."""
        return self._bends(*self._sides(data)[0])

    def _sides(self, data: Interval) -> tuple[tuple[Ends, Ends], tuple[Ends, Ends]]:
        """Return the ends that the line below and the line above have to hold for.

        A form with a positive coefficient on an element is smallest on a chip with that element's
        weights at their lower corner, whatever is in front of them, and the backward pass of the
        product takes just that corner. So for a function that never falls the line below is only
        ever asked on such chips, and the line above on those at the upper corner.
        """
        if not self._is_rising:
            return (data.lo, data.hi), (data.lo, data.hi)
        return data.lower_side(), data.upper_side()


def rising(kernel: Kernel, lo: Ends, hi: Ends) -> tuple[Ends, Ends]:
    """Return the range of a function that never falls."""
    return kernel(lo), kernel(hi)


def chord(f_lo: Ends, f_hi: Ends, lo: Ends, hi: Ends) -> Ends:
    """Return the slope of the chord, 0 where the interval is a point."""
    width = hi - lo
    wide = width > 0
    return torch.where(
        wide,
        (f_hi - f_lo) / torch.where(wide, width, torch.ones_like(width)),
        torch.zeros_like(width),
    )
