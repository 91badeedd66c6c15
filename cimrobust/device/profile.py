"""A device profile: how weights are coded, how precise a device is, and how large an array."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cimrobust.device.converters import AdcTable, DacTable


@dataclass(frozen=True)
class WeightTable:
    """How a weight becomes levels.

    Attributes:
        bits: M, magnitude bits.
        scale: One scale per ``tensor``, or one per output ``column``.
        mapping: ``sign_magnitude``, ``differential`` or ``offset``.
    """

    bits: int = 8
    scale: str = "tensor"
    mapping: str = "sign_magnitude"


@dataclass(frozen=True)
class DeviceTable:
    """How precisely one device is programmed. Fractions are of the full conductance range.

    Attributes:
        bits: K, bits a device stores.
        tolerance: Write-verify accepts a device within this fraction of its target; None: no write-verify.
        distribution: Of the deviation: ``truncated_gaussian`` or ``uniform`` within the tolerance, ``gaussian`` without write-verify,
            ``table`` of measured quantiles.
        sigma: Standard deviation of the Gaussian, as a fraction.
        z: Without write-verify, half-width of the tolerance box in sigmas.
        quantiles: For ``table``: deviations at equally spaced probabilities from 0 to 1, fractions, ascending.
    """

    bits: int = 2
    tolerance: float | None = None
    distribution: str = "truncated_gaussian"
    sigma: float | None = None
    z: float = 3.0
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class TileTable:
    """One physical array.

    Attributes:
        rows: Word lines.
        columns: Bit lines.
        grouped: Each group of a grouped or depthwise convolution has arrays of its own (``separate``), or all are blocks on the diagonal of one dense matrix,
            whose other cells hold zero and deviate too (``dense``).
    """

    rows: int = 128
    columns: int = 128
    grouped: str = "separate"


@dataclass(frozen=True)
class DeviceProfile:
    """A device profile, complete.

    Attributes:
        name: Short name.
        source: Where its numbers come from.
        weight: Coding of weights.
        device: Precision of a device.
        tile: One array.
        dac: Converters of the word lines; None: ideal.
        adc: Converters of the bit lines; None: ideal.
        defaults_used: Dotted keys that the file left out.
    """

    name: str
    source: str
    weight: WeightTable = field(default_factory=WeightTable)
    device: DeviceTable = field(default_factory=DeviceTable)
    tile: TileTable = field(default_factory=TileTable)
    dac: DacTable | None = None
    adc: AdcTable | None = None
    defaults_used: tuple[str, ...] = ()

    @property
    def has_converters(self) -> bool:
        """A product is more than that of activations and programmed weights: the crossbar kernel has to compute it."""
        return self.dac is not None or self.adc is not None

    def deviation_interval(self) -> tuple[float, float]:
        """Return the smallest and largest deviation of a device that the tolerance box holds, as fractions of the full range."""
        device = self.device
        if device.tolerance is not None:
            return -device.tolerance, device.tolerance
        if device.distribution == "table":
            return min(device.quantiles[0], 0.0), max(device.quantiles[-1], 0.0)
        width = device.z * (device.sigma or 0.0)
        return -width, width

    def tolerance_fraction(self) -> float:
        """Return the largest absolute deviation of a device that the tolerance box holds, as a fraction of the full range."""
        low, high = self.deviation_interval()
        return max(-low, high)

    def excluded_probability(self) -> float:
        """Return the probability that one device ends outside the tolerance box; 0 with write-verify."""
        if self.device.tolerance is not None or self.device.distribution != "gaussian":
            return 0.0
        return math.erfc(self.device.z / math.sqrt(2.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the profile with every default filled in, as plain values."""
        plain = asdict(self)
        plain["device"]["quantiles"] = list(self.device.quantiles)
        plain["defaults_used"] = list(self.defaults_used)
        return {"schema": 1, **plain}


def with_tolerance(profile: DeviceProfile, tolerance: float) -> DeviceProfile:
    """Return the profile with another write-verify tolerance, the distribution keeping its shape.

    Sigma and measured quantiles are scaled by the same factor, so that the distribution fills the new window as it filled the old one. From a profile
    without write-verify, z sigmas become the tolerance and the Gaussian is truncated there.

    Args:
        profile: The profile to change.
        tolerance: Fraction of the full conductance range, in [0, 1].
    """
    device, old = profile.device, profile.tolerance_fraction()
    factor = tolerance / old if old > 0 else 1.0
    changed = replace(
        device,
        tolerance=tolerance,
        sigma=None if device.sigma is None else device.sigma * factor,
        quantiles=tuple(value * factor for value in device.quantiles),
        distribution="truncated_gaussian" if device.distribution == "gaussian" else device.distribution,
    )
    return replace(profile, name=f"{profile.name}@{100 * tolerance:g}pct", device=changed)
