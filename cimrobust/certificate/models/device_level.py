"""Diagnostics of single devices: stuck ones, and those worth verifying more tightly."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cimrobust.device_level.device_level_records import VerifyRow
from cimrobust.records import Count, Record, Rows


class WriteVerify(Record):
    """Worst score found over ranking and share, each box attacked from scratch."""

    base: float
    """Worst score without tighter verify."""
    rows: Rows[VerifyRow]
    """Every ranking at every share."""
    best: str
    """Ranking with the best mean score."""
    factor: Annotated[float, Field(gt=1)]
    """By which the tolerance of verified devices shrinks."""
    writes_without: Annotated[float, Field(ge=1)]
    """Write pulses of a device on average."""
    writes_verified: Annotated[float, Field(ge=1)]
    """Write pulses of a device that is verified more tightly."""
    write_sigma: Annotated[float, Field(gt=0)]
    """Standard deviation of one write, fraction of the full conductance range."""
    write_model: str
    """The model of writing, in words."""
    draws: Count
    """Random draws of the control."""
    crafting_samples: Count
    """Samples of the attack set, on which gradients were computed."""
