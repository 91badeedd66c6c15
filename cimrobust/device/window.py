"""The programmable range of conductances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from cimrobust.device.table_types import Conductance, Flag, Real, Table


@dataclass(frozen=True)
class WindowTable(Table):
    """Table [window]: the programmable range of conductances."""

    g_min_microsiemens: Annotated[Real, Field(ge=0, le=1e9)]
    """Conductance of level 0."""
    g_max_microsiemens: Conductance
    """Conductance of the highest level."""
    clips: Flag = False
    """No device leaves the range, whatever its deviation or drift."""

    @property
    def floor(self) -> float:
        """Return g_min as a fraction of the full range g_max - g_min."""
        return self.g_min_microsiemens / (self.g_max_microsiemens - self.g_min_microsiemens)

    @model_validator(mode="after")
    def _has_width(self) -> WindowTable:
        if self.g_min_microsiemens >= self.g_max_microsiemens:
            raise ValueError("'g_min_microsiemens' must be below 'g_max_microsiemens'")
        return self
