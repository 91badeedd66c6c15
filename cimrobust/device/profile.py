"""A device profile.

How weights are coded, how precise a device is, what happens to it later, and how large an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from cimrobust.device import distribution, intervals
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.curve import Curve, Number, number_at, scale_number
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.layer_rules import DIGITAL_OPTION, LayerRule
from cimrobust.device.window import WindowTable
from cimrobust.errors import UsageError

_OPTIONAL_TABLES = ("dac", "adc", "window", "faults", "relaxation", "drift", "read_noise")


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
        tolerance: Write-verify accepts a device within this fraction of its target; None: no
            write-verify, or one with two sides.
        distribution: Of the deviation: ``truncated_gaussian`` or ``uniform`` within the tolerance,
            ``gaussian`` without write-verify,
            ``table`` of measured quantiles.
        sigma: Standard deviation of the Gaussian, as a fraction.
        z: Without write-verify, half-width of the tolerance box in sigmas.
        quantiles: For ``table``: deviations at equally spaced probabilities from 0 to 1, fractions,
            ascending; the same for every level.
        level_quantiles: The same with a row for every level.
        tolerance_low: With a tolerance of two sides: how far below its target a device is accepted,
            not negative.
        tolerance_high: How far above.
    """

    bits: int = 2
    tolerance: Number | None = None
    distribution: str = "truncated_gaussian"
    sigma: Number | None = None
    z: float = 3.0
    quantiles: tuple[float, ...] = ()
    tolerance_low: Number | None = None
    tolerance_high: Number | None = None
    level_quantiles: tuple[tuple[float, ...], ...] = ()

    @property
    def is_verified(self) -> bool:
        """Whether write-verify bounds the deviation."""
        return self.tolerance is not None or self.tolerance_low is not None

    @property
    def num_levels(self) -> int:
        """Programmable conductances of a device."""
        return int(2**self.bits)


@dataclass(frozen=True)
class TileTable:
    """One physical array.

    Attributes:
        rows: Word lines.
        columns: Bit lines.
        grouped: Each group of a grouped or depthwise convolution has arrays of its own
            (``separate``), or all are blocks on the diagonal of one dense matrix,
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
        defaults_used: Dotted keys that the file left out.
        dac: Converters of the word lines; None: ideal.
        adc: Converters of the bit lines; None: ideal.
        window: Programmable range of conductances; None: g_min is zero, and nothing is clipped.
        faults: Stuck devices; None: none.
        relaxation: Change after verification; None: none.
        drift: Change with time; None: none.
        read_noise: Noise of every read; None: none. It is in no chip and in no box.
        rules: Which layers stay digital or have devices of their own; all else here is for the
            others.
    """

    name: str
    source: str
    weight: WeightTable = field(default_factory=WeightTable)
    device: DeviceTable = field(default_factory=DeviceTable)
    tile: TileTable = field(default_factory=TileTable)
    defaults_used: tuple[str, ...] = ()
    dac: DacTable | None = None
    adc: AdcTable | None = None
    window: WindowTable | None = None
    faults: FaultsTable | None = None
    relaxation: RelaxationTable | None = None
    drift: DriftTable | None = None
    read_noise: ReadNoiseTable | None = None
    rules: tuple[LayerRule, ...] = ()

    def of_rule(self, index: int | None) -> DeviceProfile:
        """Return the profile, without rules, of the layers that a rule decides.

        None: of those that none does.
        """
        if index is None:
            return self if not self.rules else replace(self, rules=())
        rule = self.rules[index]
        return replace(
            self,
            rules=(),
            weight=rule.weight or self.weight,
            device=rule.device or self.device,
            tile=rule.tile or self.tile,
        )

    def decider(self, index: int | None) -> str:
        """Return in words what decided for a layer: a rule, or the profile itself."""
        return "profile" if index is None else self.rules[index].named(index)

    @property
    def needs_kernel(self) -> bool:
        """Whether a product is more than that of activations and programmed weights, so that the crossbar kernel has to compute it."""
        return self.dac is not None or self.adc is not None or self.read_noise is not None

    @property
    def depends_on_level(self) -> bool:
        """Whether the deviation of a fault-free device depends on the level it is programmed to."""
        numbers = [
            self.device.tolerance,
            self.device.sigma,
            self.device.tolerance_low,
            self.device.tolerance_high,
        ]
        numbers += [] if self.relaxation is None else [self.relaxation.sigma]
        drift = self.drift if self.has_drift else None
        if drift is not None:
            numbers += [drift.mean, drift.sd, drift.mean_per_log_second, drift.sd_per_log_second]
            if drift.model == "power" or drift.compensation != "none":
                return True
        return (
            any(isinstance(number, Curve) for number in numbers)
            or self.clips
            or bool(self.device.level_quantiles)
        )

    @property
    def is_bounded(self) -> bool:
        """Whether no fault-free device can leave its interval.

        Nothing with unlimited tails acts on it.
        """
        relaxes = self.relaxation is not None and _is_stated(self.relaxation.sigma)
        spreads = (
            self.drift is not None and self.has_drift and any(map(_is_stated, _spreads(self.drift)))
        )
        return self.device.distribution != "gaussian" and not relaxes and not spreads

    @property
    def has_drift(self) -> bool:
        """Whether time has passed since the conductances were verified."""
        return self.drift is not None and self.drift.log_time > 0.0

    @property
    def has_faults(self) -> bool:
        """Whether some devices are stuck."""
        return self.faults is not None and self.faults.stuck_low + self.faults.stuck_high > 0.0

    @property
    def clips(self) -> bool:
        """Whether a device cannot leave its conductance window, or pass zero."""
        return self.window is not None and bool(self.window.clips)

    @property
    def conductance_limits(self) -> tuple[float, float]:
        """Least and largest conductance of any device, normalised to the window, infinite if free."""
        return (-math.inf, math.inf) if self.window is None else self.window.limits

    def level_positions(self) -> np.ndarray:
        """Return the target conductance of every level, normalised: 0 is g_min, 1 is g_max.

        Float64 [num_levels].
        """
        return np.arange(self.device.num_levels) / (self.device.num_levels - 1)

    def level_bounds(self, *, compensation: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest deviation of a fault-free device at every level, in level units, float64 [num_levels].

        They hold from t0 to the stated time; stuck devices are outside.

        Args:
            compensation: Drift compensation factor of the layer at the stated time.
        """
        low, high = intervals.level_intervals(self, compensation=compensation)
        return (self.device.num_levels - 1) * low, (self.device.num_levels - 1) * high

    def read_sigma_levels(self) -> np.ndarray:
        """Return the standard deviation of one read of a device at every level, in level units, float64 [num_levels]."""
        sigma = None if self.read_noise is None else self.read_noise.sigma
        return np.asarray(
            (self.device.num_levels - 1) * number_at(sigma, self.level_positions(), self.window)
        )

    def deviation_interval(self) -> tuple[float, float]:
        """Return the smallest and largest deviation of a fault-free device that the tolerance box holds, as fractions of the full range.

        The widest over the levels, before any drift compensation.
        """
        low, high = intervals.level_intervals(self)
        return float(low.min()), float(high.max())

    def tolerance_fraction(self) -> float:
        """Return the largest absolute deviation of a device that the tolerance box holds, as a fraction of the full range."""
        low, high = self.deviation_interval()
        return max(-low, high)

    def excluded_probability(self) -> float:
        """Return the probability that one fault-free device ends outside the tolerance box, the largest over the levels; 0 if bounded.

        With drift: at the stated time.
        """
        if self.is_bounded:
            return 0.0
        if self.relaxation is None and not self.has_drift and not self.clips:
            return math.erfc(self.device.z / math.sqrt(2.0))
        return distribution.excluded_probability(self)

    def with_effects(
        self,
        *,
        programming: bool = True,
        faults: bool = True,
        drift: bool = True,
        relaxation: bool = True,
        read_noise: bool = True,
    ) -> DeviceProfile:
        """Return the profile with some effects switched off.

        Args:
            programming: Keep the programming error; without it every working device hits its
                target.
            faults: Keep stuck devices.
            drift: Keep drift.
            relaxation: Keep relaxation.
            read_noise: Keep read noise.
        """
        kept = {
            "programming": programming,
            "faults": faults,
            "drift": drift,
            "relaxation": relaxation,
            "read_noise": read_noise,
        }
        off = [name for name, stays in kept.items() if not stays]
        if not off:
            return self
        return replace(
            self,
            name=f"{self.name}@no-{'-no-'.join(off)}",
            device=self.device if programming else _exact(self.device),
            rules=self.rules if programming else _with_devices(self.rules, _exact),
            faults=self.faults if faults else None,
            drift=self.drift if drift else None,
            relaxation=self.relaxation if relaxation else None,
            read_noise=self.read_noise if read_noise else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the profile with every default filled in, as plain values.

        Tables of effects that are off are left out.
        """
        plain: dict[str, Any] = {"schema": 1, "name": self.name, "source": self.source}
        for table in ("weight", "device", "tile"):
            plain[table] = _plain(getattr(self, table))
        unused = ("tolerance_low", "tolerance_high", "level_quantiles")
        plain["device"] = {
            key: value
            for key, value in plain["device"].items()
            if key not in unused or value not in (None, [])
        }
        plain["defaults_used"] = list(self.defaults_used)
        for table in _OPTIONAL_TABLES:
            if getattr(self, table) is not None:
                plain[table] = _plain(getattr(self, table))
        if self.rules:
            plain["layer"] = [_plain_rule(rule, self) for rule in self.rules]
        return plain


def with_digital(profile: DeviceProfile, patterns: Iterable[str]) -> DeviceProfile:
    """Return the profile with further rules, behind its own: layers that stay digital.

    Args:
        profile: The profile to change.
        patterns: Patterns as of `LayerRule.match`.

    Raises:
        UsageError: A pattern is empty, or one text was given in place of several patterns.
    """
    if isinstance(patterns, str):
        raise UsageError(
            f"digital layers must be given as a list of patterns, got the text '{patterns}'; write"
            f" ['{patterns}']"
        )
    patterns = tuple(patterns)
    if not all(patterns):
        raise UsageError(
            f"pattern of digital layers must not be empty, got '' ({DIGITAL_OPTION}); name a layer"
        )
    more = tuple(
        LayerRule(match=pattern, digital=True, source=DIGITAL_OPTION) for pattern in patterns
    )
    return replace(profile, rules=(*profile.rules, *more)) if more else profile


def with_tolerance(profile: DeviceProfile, tolerance: float) -> DeviceProfile:
    """Return the profile with another write-verify tolerance, the distribution keeping its shape.

    Sigma, measured quantiles and curves are scaled by the same factor, so that the distribution
    fills the new window as it filled the old one; of a
    tolerance that depends on level or side, the largest becomes the one asked for. From a profile
    without write-verify, z sigmas become the tolerance
    and the Gaussian is truncated there. Faults, relaxation and drift stay as they are.

    Layers with devices of their own keep the ratio of their tolerance to the profile's, up to the
    full
    range: at half the tolerance theirs is half, at 0 no device deviates. Where the profile's own
    tolerance is 0 there is no ratio, and they keep their tolerance.

    Args:
        profile: The profile to change.
        tolerance: Fraction of the full conductance range, in [0, 1].
    """
    old = intervals.largest_programming_error(profile)

    def scaled_rule(rule_device: DeviceTable) -> DeviceTable:
        own = replace(profile, device=rule_device, rules=())
        error = intervals.largest_programming_error(own)
        if error == old:
            return _scaled_device(own, tolerance)
        return _scaled_device(own, min(error * tolerance / old, 1.0)) if old > 0 else rule_device

    return replace(
        profile,
        name=f"{profile.name}@{100 * tolerance:g}pct",
        device=_scaled_device(profile, tolerance),
        rules=_with_devices(profile.rules, scaled_rule),
    )


def _scaled_device(profile: DeviceProfile, tolerance: float) -> DeviceTable:
    device, old = profile.device, intervals.largest_programming_error(profile)
    factor = tolerance / old if old > 0 else 1.0
    two_sided = device.tolerance_low is not None
    if isinstance(device.tolerance, Curve):
        scaled: Number | None = device.tolerance.scaled(factor)
    elif device.distribution == "gaussian" and isinstance(device.sigma, Curve):
        scaled = device.sigma.scaled(device.z * factor)
    else:
        scaled = None if two_sided else tolerance
    return replace(
        device,
        tolerance=scaled,
        tolerance_low=scale_number(device.tolerance_low, factor),
        tolerance_high=scale_number(device.tolerance_high, factor),
        sigma=scale_number(device.sigma, factor),
        quantiles=tuple(value * factor for value in device.quantiles),
        level_quantiles=tuple(
            tuple(value * factor for value in row) for row in device.level_quantiles
        ),
        distribution=(
            "truncated_gaussian" if device.distribution == "gaussian" else device.distribution
        ),
    )


def _exact(device: DeviceTable) -> DeviceTable:
    """Return devices without programming error."""
    return DeviceTable(bits=device.bits, tolerance=0.0, sigma=0.0)


def _with_devices(
    rules: tuple[LayerRule, ...], change: Callable[[DeviceTable], DeviceTable]
) -> tuple[LayerRule, ...]:
    return tuple(
        rule if rule.device is None else replace(rule, device=change(rule.device)) for rule in rules
    )


def _spreads(drift: DriftTable) -> tuple[Number, ...]:
    return (drift.exponent_sd,) if drift.model == "power" else (drift.sd, drift.sd_per_log_second)


def _is_stated(number: Number) -> bool:
    return isinstance(number, Curve) or number != 0.0


def _plain(table: Any) -> dict[str, Any]:
    """Return a table as plain values, curves in words of the file format."""
    return {item.name: _plain_value(getattr(table, item.name)) for item in fields(table)}


def _plain_rule(rule: LayerRule, profile: DeviceProfile) -> dict[str, Any]:
    """Return a rule as plain values.

    Its tables complete, but for keys that neither they nor the profile's state.
    """
    plain: dict[str, Any] = {
        key: _plain_value(getattr(rule, key))
        for key in ("match", "operator", "position")
        if getattr(rule, key) is not None
    }
    plain |= {key: getattr(rule, key) for key in ("digital", "source") if getattr(rule, key)}
    for table in ("weight", "device", "tile"):
        own, shared = getattr(rule, table), getattr(profile, table)
        if own is not None:
            values, known = _plain(own), _plain(shared)
            plain[table] = {
                key: value
                for key, value in values.items()
                if value not in (None, []) or known[key] not in (None, [])
            }
    return plain if len(plain) > 1 else {**plain, "digital": False}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Curve):
        return value.to_dict()
    return [_plain_value(entry) for entry in value] if isinstance(value, tuple) else value
