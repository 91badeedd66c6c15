"""Resize and Upsample: moves where they take the nearest element, else fixed sums of neighbours.

An element is a sum of neighbours whose weights depend on where it lies between them, which engines
compute in float32. With u the unit roundoff that place is off by at most four roundings of a number
up to the length of the axis, here and in the engine; moving it by d moves the sum along an axis by
at most ``d S max|x|``, S a bound of the sum of the magnitudes of the derivatives of all weights.

Derived here. The weights are continuous and piecewise differentiable in the place, so the mean
value theorem holds piece by piece. Of a tent two weights have slope 1 and -1: S = 2. Of Keys' cubic
with parameter a from -1 to 0 the slopes are at most ``(a + 3)^2 / (3 (a + 2)) <= 3/2`` at distances
up to 1, and ``|a| <= 1`` behind it, two of each: S = 5. The magnitudes of its weights sum up to at
most ``1 - a / 2``, half way between two elements.

References:
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29,
    1981, equation (4) (the cubic).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import UNIT_FLOAT32, line_radius, product_radius
from cimrobust.certify.rules.affine import Affine, move
from cimrobust.twin.ops.resize import Sampling

if TYPE_CHECKING:
    from jaxtyping import Float

    from cimrobust.certify.rules.rule import Value
    from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Roundings of a place, the engine's and ours, each of a number up to the length of the axis.
_ROUNDINGS = 8.0
#: S of a tent and of a cubic, and the elements that a place lies between.
_SLOPES = {"linear": 2.0, "cubic": 5.0}
_TAPS = {"linear": 2, "cubic": 4}
#: Version from which on Resize has a region of interest in front of its factors; and that before
#: which Upsample has factors as an attribute.
_WITH_REGION, _FACTORS_INPUT = 11, 9


def resample(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of Resize and Upsample.

    Raises:
        CannotBoundError: Its weights are others than those of a plain interpolation, or jump.
    """
    how = Sampling.of(node)
    if how.mode == "nearest":
        return move(node, kernel)
    if how.mode not in _SLOPES or how.antialias or how.exclude_outside:
        raise CannotBoundError("it weights elements in another way than plain interpolation does")
    if how.transformation == "tf_crop_and_resize":
        raise CannotBoundError("it resizes a region, with a jump at its edge")
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise CannotBoundError("its factors follow from the aspect ratio")
    if how.mode == "cubic" and not -1.0 <= how.cubic <= 0.0:
        raise CannotBoundError(f"its cubic has the parameter {how.cubic:g}, not one from -1 to 0")
    gain = 1.0 if how.mode == "linear" else 1.0 - how.cubic / 2.0

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        data = inputs[0]
        assert isinstance(data, Interval)
        made = run(data.lo, *inputs[1:])
        axes = _num_axes(node, data.lo.shape, made.shape, inputs)
        size = _over_planes(data.magnitude, made) * gain**axes
        if how.mode == "linear":
            lo, hi = made, made if data.is_point else run(data.hi, *inputs[1:])
        else:
            middle = run(data.middle, *inputs[1:])
            reach = _over_planes(data.radius, made) * gain**axes
            lo, hi = middle - reach, middle + reach
        place = _ROUNDINGS * UNIT_FLOAT32 * (max(data.lo.shape) + 1)
        rounding = product_radius(size, 2 * axes * _TAPS[how.mode] ** axes)
        moved = axes * _SLOPES[how.mode] * place * size
        return Interval.rounded(lo, hi, rounding + moved + line_radius(1e-3 + size))

    return Affine(kernel, bounded)


def _num_axes(
    node: Node, before: Sequence[int], after: Sequence[int], inputs: Sequence[Value]
) -> int:
    """Return along how many axes a node interpolates, at most."""
    place = 2 if node.op == "Resize" and node.version >= _WITH_REGION else 1
    factors = inputs[place] if len(inputs) > place else None
    if node.op == "Upsample" and node.version < _FACTORS_INPUT:
        factors = torch.tensor(node.get("scales"))
    by_factor = int((factors != 1).sum()) if isinstance(factors, Tensor) else 0
    by_length = sum(one != other for one, other in zip(before, after, strict=True))
    return max(by_factor, by_length, 1)


def _over_planes(
    values: Float[Tensor, "samples *units"], like: Float[Tensor, "samples *others"]
) -> Float[Tensor, "samples *others"]:
    """Return the largest value of a plane, or of a sample where its channels may be mixed."""
    leading = 2 if values.dim() > 2 and values.shape[:2] == like.shape[:2] else 1
    most = values.flatten(leading).amax(-1)
    return most.reshape(*most.shape, *(1,) * (like.dim() - leading)).expand_as(like)
