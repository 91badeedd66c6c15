"""Converters at a crossbar's border: what drives word lines, and what reads bit lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cimrobust.device.table_types import Flag, Percentile, Table, Whole


@dataclass(frozen=True)
class DacTable(Table):
    """Table [dac]: how activations are sent to the word lines."""

    bits: Annotated[Whole, Field(ge=1, le=16)]
    """Bits of an input level, the sign included where there is one."""
    bits_per_pass: Annotated[Whole, Field(ge=1, le=16)] | None = None
    """Bits that one read of the array drives: 1 is bit-serial. Left out: all magnitude bits at
    once."""
    encoding: Literal["auto", "signed", "offset"] = "auto"
    """`signed`: magnitude and sign, levels from `-(2^(bits-1)-1)`; `offset`: levels from 0, that of
    a zero activation is subtracted digitally; `auto`: offset where calibration saw no negative
    input."""
    percentile: Percentile = 100.0
    """Share of the calibration inputs, in percent, inside the range; the others are clipped."""

    def num_passes(self, *, signed: bool) -> int:
        """Return how often an array is read for one input vector.

        `signed` levels send their sign beside the magnitude.
        """
        bits = self.bits - 1 if signed else self.bits
        return math.ceil(bits / min(self.bits_per_pass or bits, bits))

    @model_validator(mode="after")
    def _fits(self) -> DacTable:
        if self.encoding == "signed" and self.bits < 2:
            raise ValueError("a signed input needs at least 2 'bits'")
        if self.bits_per_pass is not None and self.bits_per_pass > self.bits:
            raise ValueError("'bits_per_pass' must be at most 'bits'")
        return self


@dataclass(frozen=True)
class AdcTable(Table):
    """Table [adc]: how the sum on a bit line becomes a number."""

    bits: Annotated[Whole, Field(ge=1, le=20)]
    """Bits of a code, the sign included where there is one."""
    symmetric: Flag = True
    """A signed converter has as many codes below 0 as above."""
    range: Literal["full_scale", "granular", "calibrated"] = "calibrated"
    """`full_scale`: every sum of nominal levels fits; `granular`: full scale in steps that are
    powers of two of level products; `calibrated`: a percentile of the sums that calibration
    data cause."""
    percentile: Percentile = 100.0
    """Share of the calibration sums, in percent, inside a calibrated range."""
    per: Literal["layer", "tile"] = "layer"
    """One calibrated range a layer, or one for every tile and plane."""
    subtract: Literal["analog", "digital"] = "analog"
    """Pairs and reference columns are subtracted before the converter (`analog`) or behind it
    (`digital`)."""

    @model_validator(mode="after")
    def _fits(self) -> AdcTable:
        if self.bits < 2 and self.subtract == "analog":
            raise ValueError(
                "a converter of signed sums needs at least 2 'bits'; subtract = \"digital\" reads"
                " sums without sign"
            )
        return self
