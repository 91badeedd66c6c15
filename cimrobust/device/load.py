"""Device profiles from TOML files, the shipped ones by name."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cimrobust.device.converters import AdcSettings, AdcTable, DacSettings, DacTable
from cimrobust.device.profile import DeviceProfile, DeviceTable, TileTable, WeightTable
from cimrobust.errors import UsageError
from cimrobust.settings_file import check_settings, parse_toml

_LATER_TABLES = ("faults", "drift", "read_noise")
_WHAT = "device profile"

Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Weight(_Strict):
    bits: Annotated[int, Field(ge=1, le=16)] = 8
    scale: Literal["tensor", "column"] = "tensor"
    mapping: Literal["sign_magnitude", "differential", "offset"] = "sign_magnitude"


class _Device(_Strict):
    bits: Annotated[int, Field(ge=1, le=8)] = 2
    tolerance: Fraction | None = None
    distribution: Literal["truncated_gaussian", "uniform", "gaussian", "table"] = "truncated_gaussian"
    sigma: Fraction | None = None
    z: Annotated[float, Field(gt=0, le=8)] = 3.0
    quantiles: Annotated[list[Annotated[float, Field(ge=-1, le=1)]], Field(max_length=100_000)] = []

    @model_validator(mode="after")
    def _complete(self) -> _Device:
        if self.distribution in ("truncated_gaussian", "uniform") and self.tolerance is None:
            raise ValueError(
                f"distribution '{self.distribution}' needs 'tolerance'; without write-verify give distribution = \"gaussian\" and 'sigma'"
            )
        if self.distribution == "gaussian" and self.tolerance is not None:
            raise ValueError("distribution 'gaussian' is unbounded and takes no 'tolerance'; with write-verify use \"truncated_gaussian\"")
        if self.distribution in ("truncated_gaussian", "gaussian") and self.sigma is None:
            raise ValueError(f"distribution '{self.distribution}' needs 'sigma'")
        if self.distribution == "table" and len(self.quantiles) < 2:
            raise ValueError("distribution 'table' needs at least two 'quantiles'")
        if self.quantiles != sorted(self.quantiles):
            raise ValueError("'quantiles' must ascend")
        if self.tolerance is not None and self.quantiles and max(-self.quantiles[0], self.quantiles[-1]) > self.tolerance:
            raise ValueError("'quantiles' must lie within 'tolerance'")
        return self


class _Tile(_Strict):
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    columns: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    grouped: Literal["separate", "dense"] = "separate"


class _Profile(_Strict):
    format: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(min_length=1, max_length=100)]
    source: Annotated[str, Field(max_length=2000)] = "not stated"
    weight: _Weight = _Weight()
    device: _Device
    tile: _Tile = _Tile()
    dac: DacSettings | None = None
    adc: AdcSettings | None = None


def list_profiles() -> tuple[str, ...]:
    """Return the names of the shipped profiles, sorted."""
    folder = resources.files("cimrobust.device") / "profiles"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Load a shipped profile by name, or a profile file.

    Args:
        name_or_path: What has a suffix or a folder is a file.

    Raises:
        UsageError: There is no such profile, or it is wrong; names every wrong key.
    """
    text = str(name_or_path)
    if text in list_profiles():
        return _load(Path(str(resources.files("cimrobust.device") / "profiles" / f"{text}.toml")), shown=text)
    if text.endswith(".toml") or "/" in text or Path(text).exists():
        return _load(Path(text), shown=text)
    near = difflib.get_close_matches(text, list_profiles(), n=1, cutoff=0.0)
    raise UsageError(
        f"device profile must be a file or one of the shipped names, got '{text}' (--device); nearest is '{near[0]}', "
        "`cimrobust devices list` shows all"
    )


def _load(path: Path, *, shown: str) -> DeviceProfile:
    tables = parse_toml(path, what=_WHAT)
    later = [key for key in _LATER_TABLES if key in tables]
    if later:
        keys = ", ".join(f"[{key}]" for key in later)
        raise UsageError(
            f"{_WHAT} must state only effects that this version computes, got {keys} ({shown}); "
            "not supported by this version, and leaving them out silently would flatter the chip"
        )
    read = check_settings(tables, _Profile, where=shown, what=_WHAT)
    device = read.device.model_dump()
    device["quantiles"] = tuple(device["quantiles"])
    return DeviceProfile(
        name=read.name,
        source=read.source,
        weight=WeightTable(**read.weight.model_dump()),
        device=DeviceTable(**device),
        tile=TileTable(**read.tile.model_dump()),
        dac=None if read.dac is None else DacTable(**read.dac.model_dump()),
        adc=None if read.adc is None else AdcTable(**read.adc.model_dump()),
        defaults_used=tuple(_left_out(read, "")),
    )


def _left_out(table: BaseModel, prefix: str) -> list[str]:
    """Return the dotted keys that a file left out, in the order of the format."""
    keys: list[str] = []
    for name, field in type(table).model_fields.items():
        value: Any = getattr(table, name)
        key = f"{prefix}{field.alias or name}"
        if isinstance(value, BaseModel):
            keys += _left_out(value, f"{key}.")
        elif name not in table.model_fields_set:
            keys.append(key)
    return keys
