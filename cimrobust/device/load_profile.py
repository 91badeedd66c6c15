"""Device profiles from TOML files, the shipped ones by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.level_checks import number_problems
from cimrobust.device.profile import DeviceProfile, DeviceTable, TileTable, WeightTable
from cimrobust.device.profile_keys import CurveModel, PieceModel, ProfileModel
from cimrobust.device.read_rules import read_rules
from cimrobust.device.window import WindowTable
from cimrobust.errors import UsageError
from cimrobust.settings_file import check_settings, parse_toml

_WHAT = "device profile"
_OPTIONAL = {
    "dac": DacTable,
    "adc": AdcTable,
    "window": WindowTable,
    "faults": FaultsTable,
    "relaxation": RelaxationTable,
    "drift": DriftTable,
    "read_noise": ReadNoiseTable,
}


def list_profiles() -> tuple[str, ...]:
    """Return the names of the shipped profiles, sorted."""
    folder = resources.files("cimrobust.device") / "profiles"
    return tuple(
        sorted(
            entry.name.removesuffix(".toml")
            for entry in folder.iterdir()
            if entry.name.endswith(".toml")
        )
    )


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Load a shipped profile by name, or a profile file.

    Args:
        name_or_path: What has a suffix or a folder is a file.

    Raises:
        UsageError: There is no such profile, or it is wrong; names every wrong key.
    """
    text = str(name_or_path)
    if text in list_profiles():
        return _load(
            Path(str(resources.files("cimrobust.device") / "profiles" / f"{text}.toml")), shown=text
        )
    if text.endswith(".toml") or "/" in text or Path(text).exists():
        return _load(Path(text), shown=text)
    near = difflib.get_close_matches(text, list_profiles(), n=1, cutoff=0.0)
    raise UsageError(
        f"device profile must be a file or one of the shipped names, got '{text}' (--device);"
        f" nearest is '{near[0]}', `cimrobust devices list` shows all"
    )


def _load(path: Path, *, shown: str) -> DeviceProfile:
    return profile_of(parse_toml(path, what=_WHAT), shown=shown)


def profile_of(tables: Mapping[str, Any], *, shown: str) -> DeviceProfile:
    """Return the profile that parsed tables state, as of a file or of a certificate.

    Args:
        tables: Tables by name; `defaults_used`, which certificates add, is made anew.
        shown: Where they come from, for messages.

    Raises:
        UsageError: They are wrong; names every wrong key.
    """
    tables = {key: value for key, value in tables.items() if key != "defaults_used"}
    read = check_settings(tables, ProfileModel, where=shown, what=_WHAT)
    profile = _made(read, shown)
    return replace(profile, rules=read_rules(read, _make, shown=shown)) if read.layer else profile


def _make(tables: Mapping[str, Any], shown: str) -> DeviceProfile:
    return _made(check_settings(tables, ProfileModel, where=shown, what=_WHAT), shown)


def _made(read: ProfileModel, shown: str) -> DeviceProfile:
    """Return the profile without its rules."""
    profile = DeviceProfile(
        name=read.name,
        source=read.source,
        weight=WeightTable(**_values(read.weight)),
        device=DeviceTable(**_values(read.device)),
        tile=TileTable(**_values(read.tile)),
        defaults_used=tuple(_left_out(read, "")),
        **{
            key: table(**_values(getattr(read, key)))
            for key, table in _OPTIONAL.items()
            if getattr(read, key) is not None
        },
    )
    problems = number_problems(profile)
    if problems:
        raise UsageError(
            f"{_WHAT} must state numbers that hold at every level, got {'; '.join(problems)}"
            f" ({shown}); correct the curve, or clip it"
        )
    return profile


def _values(table: BaseModel) -> dict[str, Any]:
    """Return the keys of a table, lists as tuples and curves as `Curve`."""
    return {name: _value(getattr(table, name)) for name in type(table).model_fields}


def _value(value: Any) -> Any:
    if isinstance(value, PieceModel):
        return _curve(value)
    return tuple(_value(entry) for entry in value) if isinstance(value, list) else value


def _curve(model: PieceModel) -> Curve:
    return Curve(**_values(model))


def _left_out(table: BaseModel, prefix: str) -> list[str]:
    """Return the dotted keys that a file left out, in the order of the format.

    Keys of curves and of tables left out are not listed.
    """
    keys: list[str] = []
    for name, field in type(table).model_fields.items():
        value: Any = getattr(table, name)
        key = f"{prefix}{field.alias or name}"
        if isinstance(value, CurveModel) or (
            value is None and (not prefix or name.startswith("tolerance_"))
        ):
            continue
        if isinstance(value, BaseModel):
            keys += _left_out(value, f"{key}.")
        elif name not in table.model_fields_set:
            keys.append(key)
    return keys
