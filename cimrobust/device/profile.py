"""A device profile.

How weights are coded, how precise a device is, what happens to it later, and how large an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable, TileTable, WeightTable
from cimrobust.device.curve import Curve, Number, number_at
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.table_types import Table, Text
from cimrobust.device.window import WindowTable

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64

_OPTIONAL_TABLES = ("dac", "adc", "window", "faults", "relaxation", "drift", "read_noise")
_WEIGHT, _DEVICE, _TILE = WeightTable(), DeviceTable(), TileTable()


@dataclass(frozen=True)
class ProfileTables(Table):
    """The tables of a profile."""

    name: Annotated[Text, Field(min_length=1, max_length=100)]
    """Short name, as certificates show it."""
    source: Annotated[Text, Field(max_length=2000)] = "not stated"
    """Where its numbers come from."""
    weight: WeightTable = _WEIGHT
    """How a weight becomes levels."""
    device: DeviceTable = _DEVICE
    """How precisely one device is programmed."""
    tile: TileTable = _TILE
    """One physical array."""
    dac: DacTable | None = None
    """Converters of the word lines. Left out: ideal."""
    adc: AdcTable | None = None
    """Converters of the bit lines. Left out: ideal."""
    window: WindowTable | None = None
    """Programmable range of conductances. Left out: g_min is zero, and nothing is clipped."""
    faults: FaultsTable | None = None
    """Devices that cannot be programmed; they lie outside the tolerance box. Left out: none."""
    relaxation: RelaxationTable | None = None
    """Gaussian change after verification. Left out: none."""
    drift: DriftTable | None = None
    """Change with time, after relaxation. Left out: none."""
    read_noise: ReadNoiseTable | None = None
    """Gaussian noise of every read. Left out: none."""


@dataclass(frozen=True)
class DeviceProfile(ProfileTables):
    """A device profile, complete."""

    defaults_used: tuple[str, ...] = ()
    """Dotted keys that the file left out."""
    rules: tuple[LayerRule, ...] = ()
    """Which layers stay digital or have devices of their own; all else here is for the others."""

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
        """Whether the crossbar kernel has to compute a product.

        It has to where a product is more than that of activations and programmed weights.
        """
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
        """Least and largest conductance of any device, normalised; infinite if free."""
        return (-math.inf, math.inf) if self.window is None else self.window.limits

    def level_positions(self) -> Float64[np.ndarray, "levels"]:
        """Return the target conductance of every level, normalised: 0 is g_min, 1 is g_max.

        Float64 [num_levels].
        """
        return np.arange(self.device.num_levels) / (self.device.num_levels - 1)

    def read_sigma_levels(self) -> Float64[np.ndarray, "levels"]:
        """Return the standard deviation of one read of a device at every level.

        It is in level units, float64 [num_levels].
        """
        sigma = None if self.read_noise is None else self.read_noise.sigma
        return np.asarray(
            (self.device.num_levels - 1) * number_at(sigma, self.level_positions(), self.window)
        )

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
            rules=self.rules if programming else rules_with(self.rules, _exact),
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


def _exact(device: DeviceTable) -> DeviceTable:
    """Return devices without programming error."""
    return DeviceTable(bits=device.bits, tolerance=0.0, sigma=0.0)


def rules_with(
    rules: tuple[LayerRule, ...], change: Callable[[DeviceTable], DeviceTable]
) -> tuple[LayerRule, ...]:
    """Return rules, the devices of those that have their own changed."""
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
