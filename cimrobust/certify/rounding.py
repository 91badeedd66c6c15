"""How far rounded arithmetic may be from the real numbers that the bounds are about.

The claim is about the deployed network, which computes in float32 in an order that nobody states.
With u the unit roundoff, a sum of n products computed in any order, with or without fused
multiply-add, is off by at most ``gamma(n) sum |w a|``, ``gamma(n) = n u / (1 - n u)``: every term
passes at most n roundings, each a factor 1 + d with ``|d| <= u``, and a product of n such factors
is within gamma(n) of 1. Every operator therefore gets a rounding radius: its output is that of
exact arithmetic on its own rounded inputs, plus an unknown error within the radius. Errors are
unknowns of their own, so they are bounded like any other: an interval is widened by the radius, and
a linear form A on an output pays ``|A| radius``.

Engines rewrite graphs: a factor or a shift is folded into weights, layers are fused. That replaces
a value by one that is rounded in other places, at most once more for every operator folded;
`_EXTRA` roundings are added to every count for it, and for the rounding of a chip's weights
themselves.

The bounds are computed in float64. Their own error is at most the same formula with u = 2^-53 and
the number of terms of the longest sum of the pass, which `_LONGEST` bounds; it is charged with the
first. Numbers below the smallest normal float32 may be flushed to zero: `_TINY` a term.

What leaves the range of float32 is infinite there, and may make what follows no number. So the
radius of terms that may leave it together, be it on the way to their sum, is infinite: no bound.

References:
    N. J. Higham, "Accuracy and stability of numerical algorithms", 2nd ed., SIAM 2002, lemma 3.1
    (the product of factors) and inequality (3.5) (inner products, any order); section 2.6 for fused
    multiply-add, which rounds once where two roundings are counted here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

#: Unit roundoff of rounding to nearest: half the distance from 1 to the next number.
UNIT_FLOAT32 = 2.0**-24
UNIT_FLOAT64 = 2.0**-53
#: Roundings beside those of a sum itself: a weight stored, operators folded into others.
_EXTRA = 8
#: Terms of the longest sum of a pass of bounds, 4 million.
_LONGEST = 2**22
#: Roundings that a slope, an intercept and the sum of many lines cost together, far above the two
#: of one line.
_LINE_ROUNDINGS = 1024
#: Numbers below it are rounded to the largest float32 at most: half a last place above that.
MOST_FLOAT32 = 2.0**128 - 2.0**103
#: Twice the smallest normal float32, 2^-126: what one flushed term and its result may lose.
_TINY = 2.0**-125


def gamma(num_terms: int, unit: float) -> float:
    """Return the relative error of a sum of products; infinite where the formula does not hold."""
    # The formula needs n u < 1. From n u = 1/2 on it is above 1, so that it proves nothing.
    share = num_terms * unit
    return share / (1.0 - share) if share < 0.5 else math.inf


def product_radius(magnitude: Float[Tensor, "*shape"], num_terms: int) -> Float[Tensor, "*shape"]:
    """Return the rounding radius of sums of `num_terms` products.

    `magnitude` holds the sums of their magnitudes.
    """
    count = num_terms + _EXTRA
    radius = (
        gamma(count, UNIT_FLOAT32) + gamma(count + _LONGEST, UNIT_FLOAT64)
    ) * magnitude + count * _TINY
    return torch.where(magnitude < MOST_FLOAT32, radius, math.inf)


def mean_radius(magnitude: Float[Tensor, "*shape"], num_terms: int) -> Float[Tensor, "*shape"]:
    """Return the rounding radius of sums of numbers over how many there are, at most `num_terms`.

    `magnitude` holds the means of their magnitudes; the sums are that much larger.
    """
    return product_radius(num_terms * magnitude, num_terms) / num_terms


def value_radius(magnitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the rounding radius of an elementwise operator, given the magnitudes of its terms."""
    return product_radius(magnitude, 1)


def line_radius(magnitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return how far float64 may be off in a slope times a value plus an intercept.

    `magnitude` is that of this line; adding it to hundreds of others is included.
    """
    return gamma(_LINE_ROUNDINGS, UNIT_FLOAT64) * magnitude
