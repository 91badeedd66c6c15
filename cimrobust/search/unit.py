"""The tolerance box stretched so that every weight has the same range: steps are then fractions of a weight's own interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cimrobust.search.box import Box, Pattern, tensor_of, tensors_of

#: A point of the stretched box by initializer name.
Unit = dict[str, Tensor]


@dataclass(frozen=True)
class UnitBox:
    """The box stretched to [-1, 1] in every weight: ``d = centre + half * u``, with u = -1 exactly at lo and 1 exactly at hi."""

    lo: Mapping[str, Tensor]
    hi: Mapping[str, Tensor]
    centre: Mapping[str, Tensor]
    half: Mapping[str, Tensor]

    def pattern(self, unit: Unit) -> Unit:
        """Return the deviations of a point, inside the box exactly."""
        inside = {name: self.centre[name] + self.half[name] * u for name, u in unit.items()}
        inside = {name: torch.minimum(torch.maximum(d, self.lo[name]), self.hi[name]) for name, d in inside.items()}
        return {name: torch.where(u >= 1, self.hi[name], torch.where(u <= -1, self.lo[name], inside[name])) for name, u in unit.items()}

    def unit(self, pattern: Pattern) -> Unit:
        """Return the point of a pattern; weights whose interval is empty are at 0."""
        found: Unit = {}
        for name, deviation in pattern.items():
            half = self.half[name]
            u = (tensor_of(deviation) - self.centre[name]) / torch.where(half > 0, half, 1.0)
            found[name] = torch.where(half > 0, u.clamp(-1, 1), 0.0)
        return found


def unit_box(box: Box) -> UnitBox:
    """Return the stretched box."""
    lo, hi = tensors_of(box.lo), tensors_of(box.hi)
    return UnitBox(lo, hi, {name: (lo[name] + hi[name]) / 2 for name in lo}, {name: (hi[name] - lo[name]) / 2 for name in lo})
