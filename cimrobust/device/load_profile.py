"""Device profiles from TOML files, the shipped ones by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.level_checks import number_problems
from cimrobust.device.profile import DeviceProfile, ProfileTables
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.device.profile_keys import ProfileFile
from cimrobust.errors import UsageError
from cimrobust.settings_file import check_settings, parse_toml

if TYPE_CHECKING:
    from cimrobust.device.profile_keys import LayerKeys

_WHAT = "device profile"
_TABLES = ("weight", "device", "tile")
_TOLERANCES = ("tolerance", "tolerance_low", "tolerance_high")
_QUANTILES = ("quantiles", "level_quantiles")
#: With one of these beside it, a tolerance is taken literally.
_SHAPES = ("tolerance_low", "tolerance_high", "distribution", "sigma", "z", *_QUANTILES)

#: Makes and checks a profile without rules: its tables, and where they come from.
Maker = Callable[[Mapping[str, Any], str], DeviceProfile]


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
    read = check_settings(tables, ProfileFile, where=shown, what=_WHAT)
    profile = _made(read, tables, shown)
    if not read.layer:
        return profile
    plain = {key: value for key, value in tables.items() if key != "layer"}
    return replace(profile, rules=read_rules(read.layer, plain, _make, shown=shown))


def _make(tables: Mapping[str, Any], shown: str) -> DeviceProfile:
    return _made(check_settings(tables, ProfileFile, where=shown, what=_WHAT), tables, shown)


def _made(read: ProfileFile, tables: Mapping[str, Any], shown: str) -> DeviceProfile:
    """Return the profile without its rules."""
    shared = {key.name: getattr(read, key.name) for key in fields(ProfileTables)}
    profile = DeviceProfile(**shared, defaults_used=tuple(_left_out(read, tables)))
    problems = number_problems(profile)
    if problems:
        raise UsageError(
            f"{_WHAT} must state numbers that hold at every level, got {'; '.join(problems)}"
            f" ({shown}); correct the curve, or clip it"
        )
    return profile


def _left_out(read: ProfileFile, tables: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted keys that a file left out, in the order of the format.

    Tables left out that have no defaults are not listed, nor are sides of a tolerance.
    """
    for key in fields(ProfileTables):
        table, stated = getattr(read, key.name), tables.get(key.name, {})
        if is_dataclass(table):
            for part in fields(table):
                is_side = part.name in ("tolerance_low", "tolerance_high")
                if part.name not in stated and not is_side:
                    yield f"{key.name}.{part.name}"
        elif table is not None and key.name not in tables:
            yield key.name


def read_rules(
    stated: Sequence[LayerKeys], base: Mapping[str, Any], make: Maker, *, shown: str
) -> tuple[LayerRule, ...]:
    """Return the rules of a profile file, each checked as the whole profile that it makes.

    Args:
        stated: Its rules.
        base: What else the file states, table by table.
        make: Makes the profile that a rule gives its layers.
        shown: Where the file is, for messages.

    Raises:
        UsageError: A rule makes no profile; names it.
    """
    return tuple(
        _rule(rule, base, make, f"{shown}, [[layer]] {number}")
        for number, rule in enumerate(stated, start=1)
    )


def _rule(rule: LayerKeys, base: Mapping[str, Any], make: Maker, shown: str) -> LayerRule:
    stated = {table: dict(getattr(rule, table)) for table in _TABLES}
    tolerance = _lone_tolerance(stated["device"], shown)
    if tolerance is not None:
        del stated["device"]["tolerance"]
    made = make(
        {**base, **{table: _merged(base.get(table, {}), stated[table]) for table in _TABLES}}, shown
    )
    if tolerance is not None:
        made = with_tolerance(made, tolerance)
    return LayerRule(
        match=rule.match,
        operator=rule.operator,
        position=rule.position,
        digital=bool(rule.digital),
        source=rule.source,
        weight=made.weight if rule.weight else None,
        device=made.device if rule.device else None,
        tile=made.tile if rule.tile else None,
    )


def _lone_tolerance(stated: Mapping[str, Any], shown: str) -> float | None:
    """Return the tolerance of a rule that says nothing else of the distribution.

    It scales that of the profile, as --tolerance does.
    """
    value = stated.get("tolerance")
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or any(key in stated for key in _SHAPES)
    ):
        return None
    if not 0 <= value <= 1:
        raise UsageError(
            "device profile must follow its format, got: key 'device.tolerance': must be in [0,"
            f" 1], got {value} ({shown})"
        )
    return float(value)


def _merged(base: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with the keys that a rule states in place of the profile's.

    One form of a tolerance, of quantiles or of a distribution takes the place of the others.
    """
    dropped: set[str] = set()
    for forms in (_TOLERANCES, _QUANTILES):
        if any(key in stated for key in forms):
            dropped |= set(forms)
    if "distribution" in stated and stated["distribution"] != base.get(
        "distribution", "truncated_gaussian"
    ):
        dropped |= set(_QUANTILES)
        dropped |= set(_TOLERANCES) if stated["distribution"] == "gaussian" else set()
    return {**{key: value for key, value in base.items() if key not in dropped}, **stated}
