"""The programmable range of conductances."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WindowTable:
    """The programmable range of a device.

    Attributes:
        g_min_microsiemens: Conductance of level 0.
        g_max_microsiemens: Conductance of the highest level.
        clips: A device cannot leave the range, whatever its deviation or drift.
    """

    g_min_microsiemens: float
    g_max_microsiemens: float
    clips: bool = False

    @property
    def floor(self) -> float:
        """Return g_min as a fraction of the full range g_max - g_min."""
        return self.g_min_microsiemens / (self.g_max_microsiemens - self.g_min_microsiemens)
