"""LogSoftmax inside a network.

``y_i = -log(1 + sum over j != i of exp(x_j - x_i))`` rises with x_i and falls with all others, so
its range over a box is known exactly. Linear bounds are those of the mean value theorem: the
derivative of y_i by x_j is 1 at j = i, less p_j, p the softmax; with every p_j in c_j ± d_j over
the box, ``y_i = y_i(m) + (x_i - m_i) - sum_j c_j (x_j - m_j)`` up to ``sum_j d_j r_j``, m and r
middle and radius of x. Where that is further off than the range, the ends of the range are taken.

Derived here, as for `certify.rules.softmax`, whose range of p it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rounding import UNIT_FLOAT32, line_radius
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.certify.rules.softmax import Softmax, axis_of, shares

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node


@dataclass(frozen=True)
class LogSoftmax(Softmax):
    """LogSoftmax over one axis."""

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data = self.data(inputs)
        lo, hi = (end.movedim(-1, self.axis) for end in _logs(*self.ends(data)))
        # A difference of rounded scores, a logarithm of a sum of exponentials of others.
        size = data.magnitude.amax(self.axis, keepdim=True)
        rounding = UNIT_FLOAT32 * (8.0 * size + data.lo.shape[self.axis] + 64.0)
        return Interval.rounded(lo, hi, (rounding + line_radius(1e-3 + size)).expand_as(lo))

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        lo, hi = self.ends(self.data(inputs))
        middle, radius = 0.5 * (lo + hi), 0.5 * (hi - lo)
        least, most = _logs(lo, hi)
        fewest, largest = shares(lo, hi)
        off = (0.5 * (largest - fewest) * radius).sum(-1, keepdim=True)
        linear = 2.0 * off < most - least
        axis = self.axis + 1 if self.axis >= 0 else self.axis
        moved = form.movedim(axis, -1)
        plus, minus = moved.clamp(min=0), moved.clamp(max=0)
        straight = moved * linear
        pulled = straight - 0.5 * (fewest + largest) * straight.sum(-1, keepdim=True)
        value = torch.log_softmax(middle, -1)
        constant = (
            total(plus, torch.where(linear, value - off, least))
            + total(minus, torch.where(linear, value + off, most))
            - total(pulled, middle)
        )
        return Pulled((pulled.movedim(-1, axis),), constant)


def _logs(
    lo: Float[Tensor, "samples *positions outputs"], hi: Float[Tensor, "samples *positions outputs"]
) -> tuple[
    Float[Tensor, "samples *positions outputs"], Float[Tensor, "samples *positions outputs"]
]:
    """Return the ends of every output over a box; the normalised axis is last."""
    eye = torch.eye(lo.shape[-1], dtype=torch.bool)
    gaps = hi[..., None, :] - lo[..., :, None], lo[..., None, :] - hi[..., :, None]
    least, most = (-gap.masked_fill(eye, 0.0).logsumexp(-1) for gap in gaps)
    return least, most


def log_softmax(node: Node, _kernel: Kernel) -> LogSoftmax:
    """LogSoftmax."""
    return LogSoftmax(*axis_of(node))
