"""Rules for layers from the tables of a profile file.

Every rule is checked as the whole profile that it makes of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.device.profile_keys import LayerKeys

_TABLES = ("weight", "device", "tile")
_TOLERANCES = ("tolerance", "tolerance_low", "tolerance_high")
_QUANTILES = ("quantiles", "level_quantiles")
#: With one of these beside it, a tolerance is taken literally.
_SHAPES = ("tolerance_low", "tolerance_high", "distribution", "sigma", "z", *_QUANTILES)

#: Makes and checks a profile without rules: its tables, and where they come from.
Maker = Callable[[Mapping[str, Any], str], DeviceProfile]


def read_rules(
    stated: Sequence[LayerKeys], base: Mapping[str, Any], make: Maker, *, shown: str
) -> tuple[LayerRule, ...]:
    """Return the rules of a profile file.

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
