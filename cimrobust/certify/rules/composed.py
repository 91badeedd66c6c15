"""Operators that are a few others in a row: the larger of two tensors, and quotients.

``max(a, b) = b + relu(a - b)`` and ``min(a, b) = b - relu(b - a)``; ``a / b = a (1 / b)`` where b
has one sign. Equalities of real numbers, so bounds of the parts are bounds of the whole; what the
deployed operator rounds itself is charged to its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import line_radius, value_radius
from cimrobust.certify.rules.affine import Affine, add, scale, subtract
from cimrobust.certify.rules.bilinear import Bilinear
from cimrobust.certify.rules.curves import reciprocal
from cimrobust.certify.rules.piecewise import leaky_lines
from cimrobust.certify.rules.relaxation import Activation, rising
from cimrobust.certify.rules.rule import Pulled, Value

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

Form = Float64[Tensor, "forms samples *units"]


@dataclass(frozen=True)
class Larger:
    """The larger (sign 1) or the smaller (sign -1) of two tensors, element by element.

    Attributes:
        sign: Which.
        add: Rule of a sum.
        subtract: Rule of a difference.
        relu: Rule of a ReLU.
    """

    sign: int
    add: Affine
    subtract: Affine
    relu: Activation

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`; the operator itself rounds nothing."""
        first, second = (_ends(value) for value in inputs)
        choose = torch.maximum if self.sign > 0 else torch.minimum
        lo, hi = choose(first[0], second[0]), choose(first[1], second[1])
        magnitude = _magnitude(inputs[0]) + _magnitude(inputs[1])
        return Interval.rounded(lo, hi, line_radius(1e-3 + magnitude).expand_as(lo))

    def backward(self, form: Form, inputs: Sequence[Value], output: Interval) -> Pulled:
        """As in `Rule`."""
        first, second = inputs
        apart = (first, second) if self.sign > 0 else (second, first)
        gap = self.subtract.forward(apart)
        bent = self.relu.backward(self.sign * form, (gap,), gap)
        assert bent.coefs[0] is not None
        of_gap = self.subtract.backward(bent.coefs[0], apart, gap)
        straight = self.add.backward(form, (gap, second), gap)
        coefs = of_gap.coefs if self.sign > 0 else of_gap.coefs[::-1]
        return Pulled(
            (coefs[0], _sum(coefs[1], straight.coefs[1])),
            bent.constant + of_gap.constant + straight.constant,
        )


@dataclass(frozen=True)
class Quotient:
    """A tensor over activations of one sign.

    Attributes:
        inverse: Rule of a reciprocal.
        of_known: Rule of a product with something known.
        of_active: Rule of a product of activations.
    """

    inverse: Activation
    of_known: Affine
    of_active: Bilinear

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        first, second = inputs
        inverse = self.inverse.forward((second,))
        made = self._product(first).forward((first, inverse))
        assert inverse.rounding is not None
        # Of one division; and what float64 is off in the lines of the reciprocal.
        rounding = value_radius(made.magnitude) + _magnitude(first) * inverse.rounding
        return Interval.rounded(made.lo, made.hi, rounding)

    def backward(self, form: Form, inputs: Sequence[Value], output: Interval) -> Pulled:
        """As in `Rule`."""
        first, second = inputs
        inverse = self.inverse.forward((second,))
        product = self._product(first).backward(form, (first, inverse), inverse)
        assert product.coefs[1] is not None
        below = self.inverse.backward(product.coefs[1], (second,), inverse)
        return Pulled((product.coefs[0], below.coefs[0]), product.constant + below.constant)

    def _product(self, first: Value) -> Affine | Bilinear:
        return self.of_active if isinstance(first, Interval) else self.of_known


def larger(node: Node, _kernel: Kernel) -> Larger:
    """Max and Min of two tensors."""
    relu = Activation(
        torch.relu,
        rising,
        partial(leaky_lines, 0.0),
        bends=lambda lo, hi: (lo < 0) & (hi > 0),
        least_slope=0.0,
        floor=0.0,
    )
    return Larger(
        1 if node.op == "Max" else -1, add(node, torch.add), subtract(node, torch.sub), relu
    )


def quotient(node: Node, _kernel: Kernel) -> Quotient:
    """Div by activations."""
    return Quotient(
        reciprocal(node, torch.reciprocal), scale(node, torch.mul), Bilinear(torch.mul, sums=False)
    )


def _ends(value: Value) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    if value is None:
        raise CannotBoundError("an input is missing")
    return (value.lo, value.hi) if isinstance(value, Interval) else (value, value)


def _magnitude(value: Value) -> Float[Tensor, "..."]:
    lo, hi = _ends(value)
    return torch.maximum(lo.abs(), hi.abs())


def _sum(first: Form | None, second: Form | None) -> Form | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
