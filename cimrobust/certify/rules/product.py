"""Products of activations and stored weights, both uncertain.

Let a row of weights W lie in a box with middle M and radius R, and let A be a linear form on the
products. If every weight is used once, weights are free of each other and ``min over W of A W a = A
M a - (|A| R) |a|``, exactly, for every a. If one weight multiplies activations at many positions p
(a convolution, a sequence), it is still one device: with G = sum_p A_p a_p, the derivative with
respect to it, the minimum is ``M G - R |G|``. Both are concave in a; the line through the ends of
the range of a (or of G) bounds ``|a|`` (or ``|G|``) from above, and is exact where the sign is
known, as behind a ReLU.

Derived here. A form on a product is a sum of ``w c`` over weights, c a product of A and a, or G
where one weight is used often. Every w is free in M ± R, and there ``min w c = M c - R |c|``. A
line above ``|c|`` in its place lowers the bound, so it stays one. For weights as perturbed inputs
of a graph see K. Xu et al., "Automatic perturbation analysis for scalable certified robustness and
beyond", NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval, chord_of_absolute
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import MOST_FLOAT32, product_radius
from cimrobust.certify.rules.rule import Pulled, Value, total

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node


def as_interval(value: Value) -> Interval:
    """Return a known tensor as the interval that holds it alone."""
    if value is None:
        raise CannotBoundError("an input is missing")
    return value if isinstance(value, Interval) else Interval.point(value)


def product_ends(
    linear: Kernel, data: Interval, weight: Interval
) -> tuple[Float[Tensor, "*products"], Float[Tensor, "*products"]]:
    """Return the range of a bilinear operator, rounding left out.

    Every output uses a weight once. Exact for activations that are points or not negative;
    elsewhere the parts of the middle and of the deviation are bounded apart from each other.

    Args:
        linear: The operator without bias.
        data: Activations.
        weight: Weights.
    """
    if data.is_point:
        middle = linear(data.lo, weight.middle)
        reach = (
            torch.zeros_like(middle) if weight.is_point else linear(data.lo.abs(), weight.radius)
        )
        return middle - reach, middle + reach
    if data.is_nonnegative:
        return _signed(linear, data.lo, data.hi, weight)
    known = data.lo >= 0
    lo, hi = _signed(linear, data.lo * known, data.hi * known, weight)
    low, high, size = data.lo * ~known, data.hi * ~known, data.magnitude * ~known
    # w a = M a + (w - M) a, bounded apart: M a by the signs of M, the rest by R max|a|.
    plus, minus = halves(weight.middle)
    lo = lo + linear(low, plus) + linear(high, minus)
    hi = hi + linear(high, plus) + linear(low, minus)
    if not weight.is_point:
        reach = linear(size, weight.radius)
        lo, hi = lo - reach, hi + reach
    return lo, hi


def product_interval(
    linear: Kernel, data: Interval, weight: Interval
) -> tuple[Float[Tensor, "*products"], Float[Tensor, "*products"], Float[Tensor, "*products"]]:
    """Return `product_ends`, and the sum of the magnitudes of the terms."""
    lo, hi = product_ends(linear, data, weight)
    return lo, hi, linear(data.magnitude, weight.magnitude)


def halves(
    values: Float[Tensor, "*shape"],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return the parts above and below zero.

    Not by `clamp`, whose gradient chooses element by element and takes ten times as long.
    """
    above = torch.relu(values)
    return above, values - above


def _signed(
    linear: Kernel,
    low: Float[Tensor, "*data"],
    high: Float[Tensor, "*data"],
    weight: Interval,
) -> tuple[Float[Tensor, "*products"], Float[Tensor, "*products"]]:
    """Return the range of a product with activations that are not negative."""
    plus, minus = halves(weight.lo)
    lo = linear(low, plus) + linear(high, minus)
    plus, minus = halves(weight.hi)
    hi = linear(high, plus) + linear(low, minus)
    return lo, hi


def shared_form(
    form: Float64[Tensor, "forms samples groups columns positions"],
    data: Interval,
    weight: Interval,
) -> tuple[
    Float64[Tensor, "forms samples groups rows positions"], Float64[Tensor, "forms samples"]
]:
    """Pull a form back through a product whose weights are used at many positions.

    Args:
        form: [forms, samples, groups, columns, positions].
        data: [samples, groups, rows, positions].
        weight: [groups, columns, rows], or other weights for every form and sample in front of
            these axes.

    Returns:
        The form on the activations [forms, samples, groups, rows, positions], and what it leaves
        out [forms, samples].
    """
    middle = _over_positions(form, data.middle)
    reach = _over_positions(form.abs(), data.radius)
    slope, intercept = chord_of_absolute(middle, reach)
    effective = torch.addcmul(weight.middle, weight.radius, slope, value=-1.0)
    # One column makes an outer product, which torch is slower at as a product of matrices.
    turned = effective.transpose(-1, -2)
    pulled = turned * form if form.shape[-2] == 1 else turned @ form
    return pulled, -(intercept * weight.radius).flatten(2).sum(-1)


def shared_point(
    form: Float64[Tensor, "forms samples groups columns positions"],
    data: Float64[Tensor, "samples groups rows positions"],
    weight: Interval,
) -> Float64[Tensor, "forms samples"]:
    """Return the minimum of a form on a product whose activations are points, [forms, samples].

    Arguments as for `shared_form`.
    """
    gradient = _over_positions(form, data)
    return (weight.middle * gradient - weight.radius * gradient.abs()).flatten(2).sum(-1)


def _over_positions(
    form: Float64[Tensor, "forms samples groups columns positions"],
    data: Float64[Tensor, "samples groups rows positions"],
) -> Float64[Tensor, "forms samples groups columns rows"]:
    """Return the sums over positions of forms times activations.

    All forms on a sample in one product: `form @ data.mT` would copy the activations for each.
    """
    forms, samples, groups, columns, positions = form.shape
    stacked = form.permute(1, 2, 0, 3, 4).reshape(samples, groups, forms * columns, positions)
    sums = stacked @ data.transpose(-1, -2)
    return sums.reshape(samples, groups, forms, columns, -1).permute(2, 0, 1, 3, 4)


def corner_ends(
    data: Interval,
    weight: Interval,
    lo: Float[Tensor, "samples columns"],
    hi: Float[Tensor, "samples columns"],
    bias: Interval | None,
) -> tuple[Float[Tensor, "samples columns"], Float[Tensor, "samples columns"]]:
    """Return the largest product at the lower weight corner and the smallest at the upper one.

    At the lower corner a product is ``M a - R |a| + b``, the smallest for every a. Exact for data
    that are not negative; else from the distance that data may move.

    Args:
        data: Activations [samples, rows].
        weight: Weights [rows, columns].
        lo: Smallest product.
        hi: Largest product.
        bias: What is added.
    """
    if data.is_nonnegative and not data.is_point:
        low = data.hi @ weight.lo.clamp(min=0) + data.lo @ weight.lo.clamp(max=0)
        high = data.lo @ weight.hi.clamp(min=0) + data.hi @ weight.hi.clamp(max=0)
        return (low, high) if bias is None else (low + bias.lo, high + bias.hi)
    moves = (2.0 * data.radius) @ (weight.middle.abs() + weight.radius)
    return lo + moves, hi - moves


def _at_corner(value: Interval, corner: int) -> Interval:
    return Interval.point(value.hi if corner > 0 else value.lo)


@dataclass(frozen=True)
class MatrixProduct:
    """Gemm, and MatMul with a matrix or a vector on the right.

    Y = x W + b, x [samples, positions ..., rows].

    A vector is a matrix of one column, whose axis the output does not have.

    Attributes:
        flips: The matrix is transposed.
        alpha: Factor of the product.
        beta: Factor of the bias.
    """

    flips: bool = False
    alpha: float = 1.0
    beta: float = 1.0

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data, weight, bias = self.parts(inputs)
        lo, hi, strength = product_interval(torch.matmul, data, weight)
        if bias is not None:
            lo, hi, strength = lo + bias.lo, hi + bias.hi, strength + bias.magnitude
        rounding = product_radius(strength, weight.lo.shape[0] + 1)
        if 0.0 < abs(self.alpha) < 1.0:  # the sum is taken before its factor, and may overflow
            rounding = rounding.masked_fill(strength > abs(self.alpha) * MOST_FLOAT32, math.inf)
        corners = None
        if lo.dim() == 2 and not weight.is_point:
            low, high = corner_ends(data, weight, lo, hi, bias)
            corners = (low + rounding, high - rounding)
        made = replace(Interval.rounded(lo, hi, rounding), corners=corners)
        return _without_column(made) if _is_vector(inputs[1]) else made

    def ends(self, inputs: Sequence[Value]) -> Interval:
        """Return `forward` without rounding and corners: for a loss, in a third of the time."""
        data, weight, bias = self.parts(inputs)
        lo, hi = product_ends(torch.matmul, data, weight)
        made = Interval(lo, hi) if bias is None else Interval(lo + bias.lo, hi + bias.hi)
        return _without_column(made) if _is_vector(inputs[1]) else made

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
        corner: int = 0,
    ) -> Pulled:
        """As in `Rule`.

        With the weights at their upper corner where `corner` is 1, at their lower where it is -1,
        for data that are not negative.
        """
        data, weight, bias = self.parts(inputs)
        if corner:
            weight, bias = (
                _at_corner(weight, corner),
                (None if bias is None else _at_corner(bias, corner)),
            )
        if _is_vector(inputs[1]):
            form = form[..., None]
        constant = torch.zeros(form.shape[:2], dtype=form.dtype)
        if bias is not None:
            constant = total(form, bias.middle.expand_as(output.lo)) - total(
                form.abs(), bias.radius.expand_as(output.lo)
            )
        if data.is_point and form.dim() == 3:
            middle, reach = (
                torch.matmul(data.lo, weight.middle),
                torch.matmul(data.lo.abs(), weight.radius),
            )
            constant = constant + total(form, middle) - total(form.abs(), reach)
            return Pulled((None, None, None)[: len(inputs)], constant)
        if form.dim() > 3 and not weight.is_point:
            pulled, left = _positions(form, data, weight)
            return Pulled((pulled, None, None)[: len(inputs)], constant + left)
        pulled = form @ weight.middle.T
        if not weight.is_point:
            reach = form.abs() @ weight.radius.T
            slope, intercept = chord_of_absolute(data.middle, data.radius)
            pulled = pulled - reach * slope
            constant = constant - total(reach, intercept)
        return Pulled((pulled, None, None)[: len(inputs)], constant)

    def parts(self, inputs: Sequence[Value]) -> tuple[Interval, Interval, Interval | None]:
        """Return data, weights [rows, columns] and bias, factors included."""
        data, weight = as_interval(inputs[0]), as_interval(inputs[1])
        if self.flips:
            weight = weight.moved(lambda end: end.T)
        if _is_vector(weight):
            weight = weight.moved(lambda end: end[:, None])
        if weight.lo.dim() != 2:
            raise CannotBoundError(
                f"its weight must be a matrix or a vector, got {weight.lo.dim()} axes"
            )
        bias = as_interval(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
        return data, _scaled(weight, self.alpha), None if bias is None else _scaled(bias, self.beta)


def _positions(
    form: Float64[Tensor, "forms samples *positions columns"], data: Interval, weight: Interval
) -> tuple[Float64[Tensor, "forms samples *positions rows"], Float64[Tensor, "forms samples"]]:
    """Pull a form back through one matrix that is used at several positions."""
    shape = data.lo.shape
    flat = data.moved(lambda end: end.reshape(shape[0], 1, -1, shape[-1]).transpose(-1, -2))
    forms = form.reshape(*form.shape[:2], 1, -1, form.shape[-1]).transpose(-1, -2)
    pulled, constant = shared_form(forms, flat, weight.moved(lambda end: end.T[None]))
    return pulled.transpose(-1, -2).reshape(form.shape[0], *shape), constant


def _is_vector(weight: Value) -> bool:
    return weight is not None and as_interval(weight).lo.dim() == 1


def _without_column(made: Interval) -> Interval:
    """Return an interval without its last axis, which has one element."""
    rounding = None if made.rounding is None else made.rounding[..., 0]
    corners = None if made.corners is None else (made.corners[0][..., 0], made.corners[1][..., 0])
    return Interval(made.lo[..., 0], made.hi[..., 0], rounding, corners)


def _scaled(value: Interval, factor: float) -> Interval:
    if factor == 1.0:
        return value
    lo, hi = factor * value.lo, factor * value.hi
    return Interval(lo, hi) if factor > 0 else Interval(hi, lo)


def gemm(node: Node, kernel: Kernel) -> MatrixProduct:
    """Gemm."""
    if node.get("transA", 0):
        raise CannotBoundError("its activations are transposed")
    return MatrixProduct(
        bool(node.get("transB", 0)), float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    )


def matmul(node: Node, kernel: Kernel) -> MatrixProduct:
    """MatMul."""
    return MatrixProduct()
