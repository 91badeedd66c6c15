"""Tables that every profile has: coding of weights, precision of devices, size of an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cimrobust.device.curve import Curve, FractionOrCurve
from cimrobust.device.table_types import Listed, Real, Sigmas, Table, Whole

_Quantiles = Annotated[tuple[Annotated[Real, Field(ge=-1, le=1)], ...], Listed(most=100_000)]


@dataclass(frozen=True)
class WeightTable(Table):
    """Table [weight]: how a weight becomes levels."""

    bits: Annotated[Whole, Field(ge=1, le=16)] = 8
    """Magnitude bits of a weight."""
    scale: Literal["tensor", "column"] = "tensor"
    """One scale for a tensor, or one for each output column."""
    mapping: Literal["sign_magnitude", "differential", "offset"] = "sign_magnitude"
    """How signs are stored: one device a slice and a digital sign, pairs of devices, or one device
    beside a reference column."""


@dataclass(frozen=True)
class DeviceTable(Table):
    """Table [device]: how precisely one device is programmed."""

    bits: Annotated[Whole, Field(ge=1, le=8)] = 2
    """Bits that one device stores."""
    tolerance: FractionOrCurve | None = None
    """Write-verify accepts a device within this fraction of the range around its target. Left out:
    no write-verify, or one with two sides."""
    distribution: Literal["truncated_gaussian", "uniform", "gaussian", "table"] = (
        "truncated_gaussian"
    )
    """Of the deviation: Gaussian cut at the tolerance, uniform within it, Gaussian without
    write-verify, or a table of quantiles."""
    sigma: FractionOrCurve | None = None
    """Standard deviation of the Gaussian, fraction of the range."""
    z: Sigmas = 3.0
    """Without write-verify: half-width of the tolerance box in sigmas."""
    quantiles: _Quantiles = ()
    """For `table`: deviations at equally spaced probabilities from 0 to 1, ascending, the same at
    every level."""
    tolerance_low: FractionOrCurve | None = None
    """With a tolerance of two sides: how far below its target a device is accepted."""
    tolerance_high: FractionOrCurve | None = None
    """How far above."""
    level_quantiles: Annotated[tuple[_Quantiles, ...], Listed(most=256)] = ()
    """The same with a row for every level."""

    @property
    def is_verified(self) -> bool:
        """Whether write-verify bounds the deviation."""
        return self.tolerance is not None or self.tolerance_low is not None

    @property
    def num_levels(self) -> int:
        """Programmable conductances of a device."""
        return int(2**self.bits)

    @model_validator(mode="after")
    def _complete(self) -> DeviceTable:
        self._sides_fit()
        if self.distribution in ("truncated_gaussian", "uniform") and not self.is_verified:
            raise ValueError(
                f"distribution '{self.distribution}' needs 'tolerance'; without write-verify give"
                " distribution = \"gaussian\" and 'sigma'"
            )
        if self.distribution == "gaussian" and self.is_verified:
            raise ValueError(
                "distribution 'gaussian' is unbounded and takes no 'tolerance'; with write-verify"
                ' use "truncated_gaussian"'
            )
        if self.distribution in ("truncated_gaussian", "gaussian") and self.sigma is None:
            raise ValueError(f"distribution '{self.distribution}' needs 'sigma'")
        self._tables_fit()
        self._quantiles_fit()
        return self

    def _sides_fit(self) -> None:
        sides = (self.tolerance_low is not None, self.tolerance_high is not None)
        if self.tolerance is not None and any(sides):
            raise ValueError("give either 'tolerance' or 'tolerance_low' and 'tolerance_high'")
        if any(sides) and not all(sides):
            raise ValueError("'tolerance_low' and 'tolerance_high' belong together")

    def _tables_fit(self) -> None:
        if self.quantiles and self.level_quantiles:
            raise ValueError("give either 'quantiles' or 'level_quantiles'")
        tables = self.level_quantiles or (self.quantiles,)
        if self.distribution == "table" and min(len(table) for table in tables) < 2:
            raise ValueError(
                "distribution 'table' needs at least two 'quantiles', or as many in each row of"
                " 'level_quantiles'"
            )
        if any(list(table) != sorted(table) for table in tables):
            raise ValueError("quantiles must ascend")
        if self.level_quantiles and len(self.level_quantiles) != 2**self.bits:
            raise ValueError(
                f"'level_quantiles' needs a row for each of the {2**self.bits} levels, got"
                f" {len(self.level_quantiles)}"
            )

    def _quantiles_fit(self) -> None:
        low, high = (
            side if side is not None else self.tolerance
            for side in (self.tolerance_low, self.tolerance_high)
        )
        if not self.quantiles or low is None or high is None:
            return
        if isinstance(low, Curve) or isinstance(high, Curve):
            raise ValueError("'quantiles' go with one 'tolerance', not with a curve")
        if self.quantiles[0] < -low or self.quantiles[-1] > high:
            raise ValueError("'quantiles' must lie within 'tolerance'")


@dataclass(frozen=True)
class TileTable(Table):
    """Table [tile]: one physical array."""

    rows: Annotated[Whole, Field(ge=1, le=1_000_000)] = 128
    """Word lines of an array."""
    columns: Annotated[Whole, Field(ge=1, le=1_000_000)] = 128
    """Bit lines of an array."""
    grouped: Literal["separate", "dense"] = "separate"
    """Every group of a grouped convolution has arrays of its own, or all are blocks of one dense
    matrix whose zero cells deviate too."""
