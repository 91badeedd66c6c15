"""Softmax inside a network.

``y_i = 1 / (1 + sum over j != i of exp(x_j - x_i))`` rises with x_i and falls with all others, so
its range over a box is known exactly. Linear bounds are those of the mean value theorem:
with the Jacobian ``J_ii = y_i (1 - y_i)``, ``J_ij = -y_i y_j`` within C ± D over the box, ``y =
y(m) + C (x - m)`` up to ``sum_j D_ij r_j``, m and r middle and radius of x. Where that is
further off than the range, the ends of the range are taken.

Derived here: ``y_i(x) = y_i(m) + sum_j J_ij(xi) (x_j - m_j)`` for a xi of the box, which is convex;
``|J_ij(xi) - C_ij| <= D_ij`` and ``|x_j - m_j| <= r_j`` give the error term (the mean value form of
interval analysis). The convex bounds of D. Wei, H. Wu, M. Wu, P.-Y. Chen, C. Barrett, E. Farchi,
"Convex bounds on the softmax function with applications to robustness verification", AISTATS 2023,
are tighter and need a tangent point for each bound; they are not used here.
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
from cimrobust.certify.rounding import UNIT_FLOAT32, line_radius
from cimrobust.certify.rules.rule import Pulled, Value, total

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: A gap beyond which a share is 0 up to what every output is charged: exp(-85) is 2^-122. Training
#: works in float32, where exp(89) is infinite and the lowest scores minus a rounding radius are.
_MOST_GAP = 85.0

#: exp(-150) is 2^-216, below the smallest float32 and below what every output is charged.
_NO_SHARE = 150.0


@dataclass(frozen=True)
class Planes:
    """``slope (x - middle) + value ± off`` around every output.

    The normalised axis is last, slopes are [..., outputs, inputs].
    """

    middle: Float64[Tensor, "samples *positions outputs"]
    slope: Float64[Tensor, "samples *positions outputs outputs"]
    below: Float64[Tensor, "samples *positions outputs"]
    above: Float64[Tensor, "samples *positions outputs"]


@dataclass(frozen=True)
class Softmax:
    """Softmax over one axis.

    Attributes:
        axis: The axis, from the front or from the back.
        flattens: Axes behind it are normalised with it, as before opset 13.
    """

    axis: int
    flattens: bool

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data = self.data(inputs)
        lo, hi = (end.movedim(-1, self.axis) for end in shares(*self.ends(data)))
        return Interval.rounded(lo, hi, self._rounding(data, hi))

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        data = self.data(inputs)
        if self not in data.kept:
            data.kept[self] = _planes(*self.ends(data))
        planes: Planes = data.kept[self]
        axis = self.axis + 1 if self.axis >= 0 else self.axis
        moved = form.movedim(axis, -1)
        plus, minus = moved.clamp(min=0), moved.clamp(max=0)
        pulled = (moved[..., None, :] @ planes.slope)[..., 0, :]
        constant = (
            total(plus, planes.below) + total(minus, planes.above) - total(pulled, planes.middle)
        )
        return Pulled((pulled.movedim(-1, axis),), constant)

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """Return where narrowing helps: everywhere."""
        return data.lo < data.hi

    def data(self, inputs: Sequence[Value]) -> Interval:
        """Return the scores; check that one axis of a sample is normalised."""
        data = inputs[0]
        assert isinstance(data, Interval)
        rank = data.lo.dim()
        if self.axis % rank == 0 or (self.flattens and self.axis % rank != rank - 1):
            raise CannotBoundError("it is taken over several axes or over the samples")
        return data

    def ends(
        self, data: Interval
    ) -> tuple[
        Float[Tensor, "samples *positions outputs"], Float[Tensor, "samples *positions outputs"]
    ]:
        """Return both ends with the normalised axis last."""
        return data.lo.movedim(self.axis, -1), data.hi.movedim(self.axis, -1)

    def _rounding(
        self, data: Interval, hi: Float[Tensor, "samples *units"]
    ) -> Float[Tensor, "samples *units"]:
        """Return the rounding radius.

        Exponentials of rounded differences, a sum of them in any order, a quotient, each within a
        few units in the last place.

        Scores far below the largest, as masks make them, have no share in any arithmetic and are
        left out.
        """
        counts = data.hi > data.lo.amax(self.axis, keepdim=True) - _NO_SHARE
        magnitude = torch.where(counts, data.magnitude, torch.zeros_like(data.lo))
        size = magnitude.amax(self.axis, keepdim=True)
        share = 2.0 * UNIT_FLOAT32 * (4.0 * size + data.lo.shape[self.axis] + 64.0)
        return hi * share + 2.0**-100 + line_radius(1e-3 + magnitude)


def shares(
    lo: Float[Tensor, "samples *positions outputs"], hi: Float[Tensor, "samples *positions outputs"]
) -> tuple[
    Float[Tensor, "samples *positions outputs"], Float[Tensor, "samples *positions outputs"]
]:
    """Return the ends of every output over a box; the normalised axis is last.

    Where a mask leaves no score, the operator gives no number, and the ends are infinite.
    """
    blank = hi.amax(-1, keepdim=True) == -math.inf
    least, most = _share(lo, hi, _MOST_GAP), _share(hi, lo, -_MOST_GAP)
    return least.masked_fill(blank, -math.inf), most.masked_fill(blank, math.inf)


def _share(
    own: Float[Tensor, "samples *positions outputs"],
    others: Float[Tensor, "samples *positions outputs"],
    unknown: float,
) -> Float[Tensor, "samples *positions outputs"]:
    """Return ``1 / (1 + sum over j != i of exp(others_j - own_i))``.

    `unknown` is the difference of two scores that are both minus infinity.
    """
    gap = (
        (others[..., None, :] - own[..., :, None])
        .nan_to_num(nan=unknown, posinf=_MOST_GAP, neginf=-_MOST_GAP)
        .clamp(max=_MOST_GAP)
    )
    eye = torch.eye(own.shape[-1], dtype=torch.bool)
    return 1.0 / (1.0 + gap.exp().masked_fill(eye, 0.0).sum(-1))


def _planes(
    lo: Float[Tensor, "samples *positions outputs"], hi: Float[Tensor, "samples *positions outputs"]
) -> Planes:
    middle, radius = 0.5 * (lo + hi), 0.5 * (hi - lo)
    least, most = shares(lo, hi)
    # No output depends on a score of minus infinity.
    masked = hi == -math.inf
    radius = radius.masked_fill(masked, 0.0)
    eye = torch.eye(lo.shape[-1], dtype=torch.bool)
    # y (1 - y) rises up to 1/2 and falls behind it.
    ends = torch.stack([least * (1 - least), most * (1 - most)])
    top = torch.where((least < 0.5) & (most > 0.5), 0.25, ends.amax(0))
    smallest = torch.where(
        eye, torch.diag_embed(ends.amin(0)), -most[..., :, None] * most[..., None, :]
    )
    largest = torch.where(eye, torch.diag_embed(top), -least[..., :, None] * least[..., None, :])
    columns = masked[..., None, :]
    slope = (0.5 * (smallest + largest)).masked_fill(columns, 0.0)
    spread = (0.5 * (largest - smallest)).masked_fill(columns, 0.0)
    off = (spread @ radius[..., None])[..., 0]
    value = torch.softmax(middle, -1)
    linear = 2.0 * off < most - least
    return Planes(
        # Where it is infinite, it is masked, or its width makes every output take its ends.
        middle.nan_to_num(0.0, 0.0, 0.0),
        torch.where(linear[..., None], slope, torch.zeros_like(slope)),
        torch.where(linear, value - off, least),
        torch.where(linear, value + off, most),
    )


def softmax(node: Node, kernel: Kernel) -> Softmax:
    """Softmax."""
    return Softmax(*axis_of(node))


def axis_of(node: Node) -> tuple[int, bool]:
    """Return the axis of Softmax or LogSoftmax, and whether those behind it belong to it."""
    flattens = node.version < 13
    return int(node.get("axis", 1 if flattens else -1)), flattens
