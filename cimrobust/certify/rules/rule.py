"""What a rule is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval, flat

#: An input of an operator: an interval of activations or weights, a tensor that constants alone
#: decide, or an input that is left out.
Value: TypeAlias = 'Interval | Shaped[Tensor, "..."] | None'


@dataclass(frozen=True)
class Pulled:
    """A linear form on an output, as linear forms on the inputs.

    Attributes:
        coefs: One form an input, [forms, samples, ...]; None where the input is no activation.
        constant: What the forms on the inputs leave out, [forms, samples].
    """

    coefs: tuple[Float64[Tensor, "forms samples ..."] | None, ...]
    constant: Float64[Tensor, "forms samples"]


@runtime_checkable
class Rule(Protocol):
    """Bounds one operator."""

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """Return an interval that holds the operator's output for all inputs in their intervals.

        Rounding is included.
        """

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """Return linear forms on the activations that bound a form on the output from below.

        Their sum is a lower bound of the linear form on the output.

        Args:
            form: Coefficients of the output, [forms, samples, ...].
            inputs: Values as for `forward`; the bound holds for activations within them.
            output: What `forward` returned for them, perhaps narrowed since. Its rounding is not
                the rule's business.
        """


@runtime_checkable
class Bent(Protocol):
    """A rule whose lines get looser as the interval of its input widens.

    They do so at the elements where it bends.
    """

    def bends(self, data: Interval) -> Bool[Tensor, "samples *units"]:
        """Return where the operator is not one line over an interval, bool, own shape."""


def total(
    form: Float64[Tensor, "forms samples *units"], values: Float64[Tensor, "samples *units"]
) -> Float64[Tensor, "forms samples"]:
    """Return the sum of a form times values over all axes but [forms, samples]."""
    return torch.einsum("snf,nf->sn", flat(form, 2), flat(values))


def total_counted(
    form: Float64[Tensor, "forms samples *units"], values: Float64[Tensor, "samples *units"]
) -> Float64[Tensor, "forms samples"]:
    """Return `total` of values that may be infinite, as masks are; NaN where a form counts one."""
    infinite = ~values.isfinite()
    if not bool(infinite.any()):
        return total(form, values)
    counted = flat((form != 0.0) & infinite, 2).any(-1)
    return total(form, values.masked_fill(infinite, 0.0)).masked_fill(counted, math.nan)
