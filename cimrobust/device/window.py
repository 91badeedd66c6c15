"""The programmable range of conductances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WindowTable:
    """The programmable range of a device.

    Attributes:
        g_min_microsiemens: Conductance of level 0.
        g_max_microsiemens: Conductance of the highest level.
        clips: A device cannot leave the range, whatever its deviation or drift; ``"zero"``: its
            conductance cannot become negative, but may pass g_max.
    """

    g_min_microsiemens: float
    g_max_microsiemens: float
    clips: bool | Literal["zero"] = False

    @property
    def floor(self) -> float:
        """Return g_min as a fraction of the full range g_max - g_min."""
        return self.g_min_microsiemens / (self.g_max_microsiemens - self.g_min_microsiemens)

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and largest conductance of any device, normalised, infinite if free."""
        if self.clips == "zero":
            return -self.floor, math.inf
        return (0.0, 1.0) if self.clips else (-math.inf, math.inf)
