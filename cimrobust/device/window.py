"""The programmable range of conductances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cimrobust.device.table_types import Conductance, Flag, Real, Table


@dataclass(frozen=True)
class WindowTable(Table):
    """Table [window]: the programmable range of conductances."""

    g_min_microsiemens: Annotated[Real, Field(ge=0, le=1e9)]
    """Conductance of level 0."""
    g_max_microsiemens: Conductance
    """Conductance of the highest level."""
    clips: Flag | Literal["zero"] = False
    """No device leaves the range, whatever its deviation or drift; `"zero"`: none becomes negative,
    but any may pass g_max."""

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

    @model_validator(mode="after")
    def _has_width(self) -> WindowTable:
        if self.g_min_microsiemens >= self.g_max_microsiemens:
            raise ValueError("'g_min_microsiemens' must be below 'g_max_microsiemens'")
        return self
