"""Converters at a crossbar's border: what drives word lines, and what reads bit lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class DacTable:
    """How activations are sent to the word lines.

    Attributes:
        bits: Bits of an input level, the sign included where there is one.
        bits_per_pass: Bits that one read of the array drives: 1 is bit-serial, None sends all
            magnitude bits at once.
        encoding: ``signed``: levels from ``-(2^(bits-1)-1)``, sent as magnitude and sign;
            ``offset``: levels from 0, the level of a zero activation is
            subtracted digitally; ``auto``: offset with zero at 0 where calibration saw no negative
            input, signed elsewhere.
        percentile: Share of the calibration inputs, in percent, whose magnitude is inside the
            range; the others are clipped.
    """

    bits: int
    bits_per_pass: int | None = None
    encoding: str = "auto"
    percentile: float = 100.0

    def num_passes(self, *, signed: bool) -> int:
        """Return how often an array is read for one input vector.

        `signed` levels send their sign beside the magnitude.
        """
        bits = self.bits - 1 if signed else self.bits
        return math.ceil(bits / min(self.bits_per_pass or bits, bits))


@dataclass(frozen=True)
class AdcTable:
    """How the sum on a bit line becomes a number.

    Attributes:
        bits: Bits of a code, the sign included where there is one.
        symmetric: A signed converter has as many codes below 0 as above.
        range: ``full_scale``: every sum of nominal levels fits; ``granular``: full scale, but a
            code is a power of two of level products, at least one;
            ``calibrated``: a percentile of the sums that calibration data cause.
        percentile: Share of the calibration sums, in percent, inside a calibrated range.
        per: One calibrated range a ``layer``, or one for every ``tile`` and plane.
        subtract: Pairs and reference columns are subtracted ``analog``, before the converter, or
            ``digital``, behind it.
    """

    bits: int
    symmetric: bool = True
    range: str = "calibrated"
    percentile: float = 100.0
    per: str = "layer"
    subtract: str = "analog"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class DacSettings(_Strict):
    """The table [dac] of a profile file."""

    bits: Annotated[int, Field(ge=1, le=16)]
    """Bits of an input level, the sign included where there is one."""
    bits_per_pass: Annotated[int, Field(ge=1, le=16)] | None = None
    """Bits that one read of the array drives: 1 is bit-serial. Left out: all magnitude bits at
    once."""
    encoding: Literal["auto", "signed", "offset"] = "auto"
    """`signed`: magnitude and sign; `offset`: levels from 0, that of a zero activation is
    subtracted digitally; `auto`: offset where calibration saw no negative input."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 100.0
    """Share of the calibration inputs, in percent, inside the range; the others are clipped."""

    @model_validator(mode="after")
    def _fits(self) -> DacSettings:
        if self.encoding == "signed" and self.bits < 2:
            raise ValueError("a signed input needs at least 2 'bits'")
        if self.bits_per_pass is not None and self.bits_per_pass > self.bits:
            raise ValueError("'bits_per_pass' must be at most 'bits'")
        return self


class AdcSettings(_Strict):
    """The table [adc] of a profile file."""

    bits: Annotated[int, Field(ge=1, le=20)]
    """Bits of a code, the sign included where there is one."""
    symmetric: bool = True
    """A signed converter has as many codes below 0 as above."""
    range: Literal["full_scale", "granular", "calibrated"] = "calibrated"
    """`full_scale`: every sum of nominal levels fits; `granular`: full scale in steps that are
    powers of two of level products; `calibrated`: a percentile of the sums that calibration
    data cause."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 100.0
    """Share of the calibration sums, in percent, inside a calibrated range."""
    per: Literal["layer", "tile"] = "layer"
    """One calibrated range a layer, or one for every tile and plane."""
    subtract: Literal["analog", "digital"] = "analog"
    """Pairs and reference columns are subtracted before the converter (`analog`) or behind it
    (`digital`)."""

    @model_validator(mode="after")
    def _fits(self) -> AdcSettings:
        if self.bits < 2 and self.subtract == "analog":
            raise ValueError(
                "a converter of signed sums needs at least 2 'bits'; subtract = \"digital\" reads"
                " sums without sign"
            )
        return self
