"""Products of two activations, as in attention.

With a in m_a ± r_a and b in m_b ± r_b, ``a b = m_a b + a m_b - m_a m_b + (a - m_a)(b - m_b)``, and
the last term is at most ``r_a r_b`` in magnitude: the mean of McCormick's two planes on either
side, so sound as each of them is. For sums of products that takes one product of the middles and
one of the radii, whatever the form.

References:
    G. P. McCormick, "Computability of global solutions to factorable nonconvex programs: part I",
    Math. Programming 10, 1976 (the four planes of a product). Z. Shi, H. Zhang, K.-W. Chang, M.
    Huang, C.-J. Hsieh, "Robustness verification for transformers", ICLR 2020 (takes one of the
    planes on either side; we take their mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import product_radius
from cimrobust.certify.rules.product import product_interval
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.twin.ops.converter_registry import Kernel, Node


@dataclass(frozen=True)
class Bilinear:
    """MatMul or Mul of two activations.

    Attributes:
        kernel: Computes the operator.
        sums: Products that an output is the sum of are as many as the last axis of the first
            operand is long; else one.
    """

    kernel: Kernel
    sums: bool

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        first, second = _both(inputs)
        lo, hi, strength = product_interval(self.kernel, first, second)
        return Interval.rounded(
            lo, hi, product_radius(strength, first.lo.shape[-1] if self.sums else 1)
        )

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        first, second = _both(inputs)
        with torch.enable_grad():
            leaves = [value.middle.detach().clone().requires_grad_() for value in (first, second)]
            made = self.kernel(*leaves)
            coefs = torch.autograd.grad(
                made, leaves, form, is_grads_batched=True, create_graph=form.requires_grad
            )
        constant = -total(form, made.detach()) - total(
            form.abs(), self.kernel(first.radius, second.radius)
        )
        return Pulled(tuple(coefs), constant)


def _both(inputs: Sequence[Value]) -> tuple[Interval, Interval]:
    first, second = inputs[0], inputs[1]
    assert isinstance(first, Interval)
    assert isinstance(second, Interval)
    return first, second


def product_of_activations(node: Node, kernel: Kernel) -> Bilinear:
    """MatMul and Mul."""
    return Bilinear(kernel, node.op == "MatMul")
