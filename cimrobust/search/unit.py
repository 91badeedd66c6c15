"""The tolerance box stretched so that every weight has the same range.

Steps are then fractions of a weight's own interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cimrobust.errors import UsageError
from cimrobust.search.torch_patterns import array_of, shared_tensors, tensor_of

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box, Pattern

#: A point of the stretched box by initializer name.
Unit = dict[str, Float[Tensor, "..."]]


@dataclass(frozen=True)
class UnitBox:
    """The box stretched to [-1, 1] in every weight.

    ``d = centre + half * u``, with u = -1 exactly at lo and 1 exactly at hi.
    """

    lo: Mapping[str, Float[Tensor, "..."]]
    hi: Mapping[str, Float[Tensor, "..."]]

    def centre(self, name: str) -> Float[Tensor, "..."]:
        """Return the middle of every interval, made anew: held, it would be another network."""
        return (self.lo[name] + self.hi[name]) / 2

    def half(self, name: str) -> Float[Tensor, "..."]:
        """Return half the width of every interval, made anew."""
        return (self.hi[name] - self.lo[name]) / 2

    def pattern(self, unit: Unit) -> Unit:
        """Return the deviations of a point, inside the box exactly."""
        return {name: self._deviations(name, u) for name, u in unit.items()}

    def _deviations(self, name: str, u: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        lo, hi = self.lo[name], self.hi[name]
        inside = torch.minimum(torch.maximum(self.centre(name) + self.half(name) * u, lo), hi)
        return torch.where(u >= 1, hi, torch.where(u <= -1, lo, inside))

    def unit(self, pattern: Pattern) -> Unit:
        """Return the point of a pattern; weights whose interval is empty are at 0."""
        found: Unit = {}
        for name, deviation in pattern.items():
            half = self.half(name)
            u = (tensor_of(deviation).to(half.device) - self.centre(name)) / torch.where(
                half > 0, half, 1.0
            )
            found[name] = torch.where(half > 0, u.clamp(-1, 1), 0.0)
        return found


def unit_box(box: Box, device: torch.device | None = None) -> UnitBox:
    """Return the stretched box, its tensors on a device; None: the processor."""
    return UnitBox(shared_tensors(box.lo, device), shared_tensors(box.hi, device))


def rescaled(pattern: Mapping[str, Float32[np.ndarray, "..."]], *, of: Box, to: Box) -> Pattern:
    """Return the pattern at the same place of another box.

    What was found at one tolerance, as a start for the search at the next.

    Every weight keeps its place between its bounds, so that corners stay corners; weights whose old
    interval was empty come to the centre.

    Args:
        pattern: Deviations by initializer name, float32.
        of: Box that the pattern was found in.
        to: Box of the same network.

    Raises:
        UsageError: The pattern or a box is of another network.
    """
    for what, found in (("pattern", pattern), ("box to rescale to", to.nominal)):
        if {name: array.shape for name, array in found.items()} != {
            name: array.shape for name, array in of.nominal.items()
        }:
            raise UsageError(
                f"{what} must have the weights of the box that the pattern was found in, got"
                " others; rescale within one network"
            )
    unit = unit_box(of).unit(dict(pattern))
    return {name: array_of(deviation) for name, deviation in unit_box(to).pattern(unit).items()}
