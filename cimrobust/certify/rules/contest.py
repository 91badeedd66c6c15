"""Who may be the maximum of a window, and the planes above and below it.

In every window one element is the reference, the one whose interval has the largest middle. Below
the maximum is the reference itself. Above it are two planes:

- From the elements' own ends. For every t, ``max_i x_i <= t + sum_i max(x_i - t, 0)``, and ``max(x
  - t, 0) <= (u - t) (x - l) / (u - l)`` for l <= x <= u and
  l <= t <= u. At the middles the sum is smallest where t is the second largest of all u_i, but t
  may not be below any l_i.
- From how far elements are above the reference. With y_i = x_i - x_ref between d_i and e_i, ``max_i
  x_i = x_ref + max(0, max_i y_i)``, which is bounded in the same way by
  ``x_ref + t + sum_i (e_i - t) (y_i - d_i) / (e_i - d_i)`` over the rivals, those with e_i > t, for
  t >= 0 and no d_i above t. Neighbours in a plane come from the same devices
  of a kernel, so a backward pass bounds their difference far better than their ends do, and a
  reference without rivals is the maximum itself.

The plane that is lower at the middle is taken.

Derived here. Below: a maximum is no less than any of its elements. Above, the first inequality: the
maximum itself is one of the x_i, so its term makes up for t, and no term is negative. The second:
``max(x - t, 0)`` is convex, so it lies below its chord over [l, u], which is 0 at l as l <= t.
DeepPoly (Singh et al., POPL 2019) takes the largest end as a constant instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def below_all(like: Float[Tensor, "..."]) -> float:
    """Return a number that stands for padding.

    Below every activation, in the precision of `like`, and finite in sums of two.
    """
    return torch.finfo(like.dtype).min / 4


@dataclass(frozen=True)
class Contest:
    """Who may be the maximum of a window; every tensor is [samples, channels, taps, positions].

    Attributes:
        lo: Lower ends of the elements; padding is below everything.
        hi: Upper ends.
        reference: One where an element is the reference of its window, else zero.
        least: Lower ends of how far elements are above the reference of their window; the reference
            itself and padding are below everything.
        most: Upper ends.
    """

    lo: Float[Tensor, "samples channels taps positions"]
    hi: Float[Tensor, "samples channels taps positions"]
    reference: Float[Tensor, "samples channels taps positions"]
    least: Float[Tensor, "samples channels taps positions"]
    most: Float[Tensor, "samples channels taps positions"]

    @staticmethod
    def of(
        lo: Float[Tensor, "samples channels taps positions"],
        hi: Float[Tensor, "samples channels taps positions"],
    ) -> Contest:
        """Return what the elements' own ends say."""
        chosen = (lo + hi).max(dim=2, keepdim=True).indices
        reference = torch.zeros_like(lo).scatter_(2, chosen, 1.0)
        below = below_all(hi)
        out = (reference > 0) | (hi <= below)
        least, most = lo - hi.gather(2, chosen), hi - lo.gather(2, chosen)
        return Contest(
            lo, hi, reference, least.masked_fill(out, below), most.masked_fill(out, below)
        )

    def top(self) -> Float[Tensor, "samples channels positions"]:
        """Return upper ends of the maxima, [samples, channels, positions]."""
        above = self.most.amax(2).clamp(min=0.0)
        return torch.minimum(self.hi.amax(2), (self.reference * self.hi).sum(2) + above)

    def plane(
        self,
    ) -> tuple[
        Float[Tensor, "samples channels taps positions"],
        Float[Tensor, "samples channels positions"],
    ]:
        """Return slopes and shifts of a plane above the maxima.

        Slopes are [samples, channels, taps, positions], shifts [samples, channels, positions].
        """
        own_slope, own_shift = _plane(self.lo, self.hi, self.lo.amax(2, keepdim=True))
        slope, shift = _plane(
            self.least, self.most, self.least.amax(2, keepdim=True).clamp(min=0.0)
        )
        slope = slope + self.reference * (1.0 - slope.sum(2, keepdim=True))
        middle = torch.where(
            self.hi > below_all(self.hi), 0.5 * (self.lo + self.hi), torch.zeros_like(self.lo)
        )
        lower = (own_slope * middle).sum(2, keepdim=True) + own_shift < (slope * middle).sum(
            2, keepdim=True
        ) + shift
        return torch.where(lower, own_slope, slope), torch.where(lower, own_shift, shift)[:, :, 0]


def _plane(
    lo: Float[Tensor, "samples channels taps positions"],
    hi: Float[Tensor, "samples channels taps positions"],
    least: Float[Tensor, "samples channels 1 positions"],
) -> tuple[
    Float[Tensor, "samples channels taps positions"], Float[Tensor, "samples channels 1 positions"]
]:
    """Return slopes and shifts of ``t + sum_i (u_i - t) (x_i - l_i) / (u_i - l_i)``.

    t is the second largest u, but not below `least`.
    """
    second = hi.topk(2, dim=2).values[:, :, 1:] if hi.shape[2] > 1 else least
    level = torch.maximum(second, least)
    passes = (hi > level) & (hi > lo)
    slope = torch.where(
        passes,
        (hi - level) / torch.where(passes, hi - lo, torch.ones_like(lo)),
        torch.zeros_like(lo),
    )
    return slope, level - (slope * torch.where(passes, lo, torch.zeros_like(lo))).sum(
        2, keepdim=True
    )
