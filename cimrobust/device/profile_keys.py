"""What a profile file may hold beside the tables of a profile: its format, and rules for layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import model_validator

from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.curve import Curve
from cimrobust.device.layer_rules import LayerSelector
from cimrobust.device.profile import ProfileTables
from cimrobust.device.table_types import Listed, Table


@dataclass(frozen=True)
class LayerKeys(LayerSelector):
    """A [[layer]] table.

    Its own tables are checked together with those of the profile, which fill in what they leave
    out.
    """

    weight: dict[str, Any] = field(default_factory=dict)
    """Keys of [weight] for these layers."""
    device: dict[str, Any] = field(default_factory=dict)
    """Keys of [device] for these layers; `tolerance` alone scales the profile's distribution."""
    tile: dict[str, Any] = field(default_factory=dict)
    """Keys of [tile] for these layers."""

    @model_validator(mode="after")
    def _says_which_and_what(self) -> LayerKeys:
        given = [key for key in ("match", "operator", "position") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "a rule needs exactly one of 'match', 'operator' and 'position', got"
                f" {' and '.join(given) or 'none'}"
            )
        tables = [key for key in ("weight", "device", "tile") if getattr(self, key)]
        if self.digital and tables:
            raise ValueError(
                f"a layer that stays digital has no devices and takes no '{tables[0]}'"
            )
        if self.digital is None and not tables:
            raise ValueError("a rule needs 'digital' or keys of 'weight', 'device' or 'tile'")
        if (
            self.position is not None
            and (self.position[0] < 0) == (self.position[1] < 0)
            and self.position[0] > self.position[1]
        ):
            raise ValueError("'position' must name the first layer before the last")
        return self


@dataclass(frozen=True, kw_only=True)
class _Format(Table):
    schema: Literal[1]
    """Format of the profile."""


@dataclass(frozen=True, kw_only=True)
class ProfileFile(ProfileTables, _Format):
    """A profile file."""

    # Without its default: a file must say how precise its devices are.
    device: DeviceTable = field()
    """How precisely one device is programmed."""
    layer: Annotated[tuple[LayerKeys, ...], Listed(most=1000)] | None = None
    """Rules for single layers; the last one that fits decides."""

    @model_validator(mode="after")
    def _units_have_a_window(self) -> ProfileFile:
        for key, curve in self.curves():
            if self.window is None and curve.needs_window:
                raise ValueError(
                    f"'{key}' is in microsiemens and needs a [window] with g_min_microsiemens and"
                    " g_max_microsiemens"
                )
            wanted = "number" if key.startswith("drift.exponent") else "conductance"
            if (curve.unit == "number") != (wanted == "number"):
                expected = "'number'" if wanted == "number" else "'fraction' or 'microsiemens'"
                raise ValueError(f"'{key}' must be a curve of unit {expected}")
        return self

    def curves(self) -> Iterator[tuple[str, Curve]]:
        """Yield every curve with its dotted key."""
        for table in fields(self):
            value = getattr(self, table.name)
            if is_dataclass(value):
                for key in fields(value):
                    number = getattr(value, key.name)
                    if isinstance(number, Curve):
                        yield f"{table.name}.{key.name}", number
