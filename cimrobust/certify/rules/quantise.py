"""Quantisers of activations: monotone staircases.

With ``v = x / step + zero`` a quantiser returns ``clamp(round(v))``, computed in float32 from a
rounded v. Rounding moves v by at most 1/2, and clamping neither turns values round nor moves them
apart, so for every error d of v with ``|d| <= e``

    q(v_lo - e) <= clamp(round(v + d)) <= q(v_hi + e)
    |clamp(round(v + d)) - clamp(v)| <= 1/2 + e

Derived here: a staircase never falls, which gives the first line; the second adds two distances,
from the level to v + d and from there to v. The first gives the interval, exactly, and constant
lines; the second lines around the clipped identity, shifted by 1/2 + e. On either side the one that
is nearer at the middle of the interval is taken. Half way cases go to either level here, so that it
does not matter whether an engine adds the zero point before it rounds or after.

Engines fuse a float operator between quantisers to one that works on levels (QLinearAdd and its
like): ``a r_a + b r_b + (zero - r_a zero_a - r_b zero_b)`` with ``r = step_in / step_out``. Its
terms are larger than those of the float operator by the zero points. So e holds 32 roundings of ``2
levels (1 + sum r)`` beside 8 of v, except behind a product with stored weights, which deployment
keeps float.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import UNIT_FLOAT32, gamma
from cimrobust.certify.rules.affine import Affine
from cimrobust.certify.rules.piecewise import clip_bends, clip_lines
from cimrobust.certify.rules.relaxation import Activation, Lines
from cimrobust.twin.ops.surrogate import round_clamp
from cimrobust.twin.ops.torch_tensors import INTEGER_RANGES

if TYPE_CHECKING:
    from cimrobust.certify.rules.rule import Value
    from cimrobust.twin.ops.converter_registry import Kernel, Node

# Element type UINT8 of the ONNX format: what a quantiser gives that names none.
_UINT8 = 2
_FUSED = gamma(32, UNIT_FLOAT32)
_ROUNDINGS = gamma(8, UNIT_FLOAT32)


@dataclass(frozen=True)
class Staircase:
    """What a quantiser does, the same for all elements.

    Attributes:
        step: Distance of two levels.
        zero: Level of 0.
        least: Lowest level.
        most: Highest level.
        slack: How far v may be off, in levels, beside a share of its own magnitude.
    """

    step: float
    zero: float
    least: float
    most: float
    slack: float

    def reach(
        self, _kernel: Kernel, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return the lowest and the highest level of an interval.

        Training on intervals gets gradients straight through.
        """
        (low, high), slack = self._scaled(lo, hi)
        return round_clamp(low - slack, self.least, self.most), round_clamp(
            high + slack, self.least, self.most
        )

    def lines(self, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]) -> Lines:
        """Return lines below and above over an interval."""
        (low, high), slack = self._scaled(lo, hi)
        bottom, top = self.reach(torch.round, lo, hi)
        clip = clip_lines(self.least, self.most, low, high)
        middle, off = 0.5 * (low + high), 0.5 + slack
        below = clip.lower_slope * middle + clip.lower_shift - off
        above = clip.upper_slope * middle + clip.upper_shift + off
        flat_below, flat_above = bottom >= below, top <= above
        none = torch.zeros_like(lo)
        return Lines(
            torch.where(flat_below, none, clip.lower_slope / self.step),
            torch.where(flat_below, bottom, clip.lower_slope * self.zero + clip.lower_shift - off),
            torch.where(flat_above, none, clip.upper_slope / self.step),
            torch.where(flat_above, top, clip.upper_slope * self.zero + clip.upper_shift + off),
        )

    def bends(
        self, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
    ) -> Bool[Tensor, "*shape"]:
        """Return where an interval passes an end of the range.

        Narrowing helps there, not with the steps.
        """
        (low, high), _slack = self._scaled(lo, hi)
        return clip_bends(self.least, self.most, low, high)

    def _scaled(
        self, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
    ) -> tuple[tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]:
        low, high = lo / self.step + self.zero, hi / self.step + self.zero
        return (low, high), self.slack + _ROUNDINGS * (1.0 + torch.maximum(low.abs(), high.abs()))


class Quantiser(Activation):
    """QuantizeLinear with one constant step and zero point for the whole tensor.

    Levels are kept as floating-point numbers.
    """

    def __init__(self, kernel: Kernel, stairs: Staircase) -> None:
        """Describe a quantiser by its kernel and its staircase."""
        super().__init__(kernel, stairs.reach, stairs.lines, bends=stairs.bends)
        self.stairs = stairs

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`; levels are whole numbers, so nothing is rounded."""
        data = inputs[0]
        assert isinstance(data, Interval)
        return Interval(*self.stairs.reach(self._kernel, data.lo, data.hi))


def quantiser(
    node: Node, kernel: Kernel, constants: Mapping[str, Shaped[Tensor, "..."]], steps: float
) -> Quantiser:
    """Return the rule of a QuantizeLinear.

    Args:
        node: The node.
        kernel: Computes it.
        constants: What is known, by name.
        steps: Sum of the steps of the levels that the operators in front of it read; 0: none that
            could be fused with it.

    Raises:
        CannotBoundError: Step or zero point are not one constant each, or the type is none of
            integers.
    """
    step, zero = (
        constants.get(node.inputs[index]) if node.has(index) else None for index in (1, 2)
    )
    declared = (
        node.input_types[2]
        if len(node.input_types) > 2 and node.has(2)
        else node.get("output_dtype", 0)
    ) or _UINT8
    if declared not in INTEGER_RANGES:
        raise CannotBoundError("its levels are no integers")
    if (
        step is None
        or step.numel() != 1
        or float(step) <= 0
        or (node.has(2) and (zero is None or zero.numel() != 1))
    ):
        raise CannotBoundError("its step or zero point is not one constant")
    if not math.isfinite(steps):
        raise CannotBoundError(
            "an engine may fuse it with the Softmax of levels in front of it, in integers that"
            " round in ways that are not bounded"
        )
    least, most = INTEGER_RANGES[declared]
    slack = _FUSED * 2.0 * max(-least, most) * (1.0 + steps / float(step)) if steps else 0.0
    return Quantiser(
        kernel,
        Staircase(
            float(step), 0.0 if zero is None else float(zero), float(least), float(most), slack
        ),
    )


def dequantise(node: Node, kernel: Kernel) -> Affine:
    """DequantizeLinear: one product a value.

    A level is a whole number, so nothing becomes too small for float32.
    """

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        levels, step = inputs[:2]
        if (
            not isinstance(levels, Interval)
            or not isinstance(step, Tensor)
            or bool((step <= 0).any())
        ):
            raise CannotBoundError("its step is not constant and positive")
        lo, hi = run(levels.lo, *inputs[1:]), run(levels.hi, *inputs[1:])
        return Interval.rounded(lo, hi, _ROUNDINGS * torch.maximum(lo.abs(), hi.abs()))

    return Affine(kernel, bounded)
