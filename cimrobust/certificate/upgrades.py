"""Brings result files of older minor versions to the form of the current one.

Within a major version fields are only ever added. So an older file lacks fields: those that may be
null become null, with the reason that its version does not state them; lists and tables become
empty. What else a version needs is written out, one function for each version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from cimrobust.certificate.models.result_file import ResultFile

Plain = dict[str, Any]


def upgraded(plain: Mapping[str, Any], kind: type[ResultFile], *, minor: int) -> Plain:
    """Return the content of an older file in the form of the current version.

    Args:
        plain: The file, as parsed; may be wrong, which validation finds afterwards.
        kind: Model of the current version.
        minor: Minor version that the file states.
    """
    made = dict(plain)
    for before, step in _STEPS.get(kind.NAME, {}).items():
        if minor < before:
            made = step(made)
    return _filled(made, kind, reason=f"files of version 1.{minor} do not state it")


def _filled(plain: Mapping[str, Any], model: type[BaseModel], *, reason: str) -> Plain:
    """Return an object with the fields that it lacks, in the order of the model.

    Fields that the model lacks are kept.
    """
    made: Plain = {}
    for name, field in model.model_fields.items():
        if name in plain:
            made[name] = _filled_value(plain[name], field.annotation, reason=reason)
        elif name.endswith("_reason") and name.removesuffix("_reason") in plain:
            made[name] = None
        elif name.endswith("_reason") or name == "reason":
            made[name] = reason
        elif (empty := _empty(field.annotation)) is not ...:
            made[name] = empty
    return made | {name: value for name, value in plain.items() if name not in made}


def _filled_value(value: Any, annotation: Any, *, reason: str) -> Any:
    """Fill what a field holds: an object, objects in a list or table, or anything else as is."""
    for kind in _alternatives(annotation):
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            return _filled(value, kind, reason=reason)
        if isinstance(value, list) and origin in (list, tuple):
            return [_filled_value(item, arguments[0], reason=reason) for item in value]
        if isinstance(value, dict) and origin is dict:
            return {
                key: _filled_value(item, arguments[1], reason=reason) for key, item in value.items()
            }
    return value


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)


def _empty(annotation: Any) -> Any:
    """Return what a field holds that says nothing; ``...`` where it has to say something."""
    kinds = _alternatives(annotation)
    if NoneType in kinds:
        return None
    origin = get_origin(kinds[0])
    if origin in (list, tuple):
        return []
    if origin is dict:
        return {}
    return ...


def _certificate_1_1(plain: Plain) -> Plain:
    """1.0 had one two-source bound for all percentiles, always null, and no intervals."""
    drawn = {
        key: value
        for key, value in _part(plain, "monte_carlo").items()
        if not key.startswith("two_source")
    }
    if isinstance(drawn.get("requirement"), dict):
        drawn["requirement"] = {"method": "not stated", **drawn["requirement"]}
    samples, decisions = (
        _part(plain, "data").get("used", 0),
        _part(plain, "clean").get("samples", 0),
    )
    missing = [
        {
            "name": "all",
            "reason": "files of version 1.0 state no intervals of the finite evaluation set",
        }
    ]
    return {
        **plain,
        "monte_carlo": drawn,
        "evaluation_set": {
            "samples": samples,
            "decisions": decisions,
            "confidence": 0.95,
            "intervals": [],
            "not_stated": missing,
        },
    }


def _certificate_1_2(plain: Plain) -> Plain:
    """1.1 and older said nothing about the samples of a bound."""
    samples = _part(plain, "data").get("used", 0)
    return {
        **plain,
        "certified": {"samples": samples, "curve_samples": 0, **_part(plain, "certified")},
    }


def _certificate_1_5(plain: Plain) -> Plain:
    """1.4 and older had one device profile for all layers."""
    profile, stated = (
        _part(_part(plain, "device"), "profile"),
        _part(plain, "device").get("tolerance_fraction"),
    )
    weight, device, tile = (_part(profile, name) for name in ("weight", "device", "tile"))
    own = {
        "decided_by": "the profile",
        "rule": None,
        "device_bits": device.get("bits"),
        "coding": weight.get("mapping"),
        "tolerance_fraction": stated,
        "tile_rows": tile.get("rows"),
        "tile_columns": tile.get("columns"),
    }
    mapping = _part(plain, "mapping")
    rows = mapping.get("layers")
    layers = (
        [{**layer, **own} if isinstance(layer, dict) else layer for layer in rows]
        if isinstance(rows, list)
        else rows
    )
    return {**_with_largest_tolerance(plain), "mapping": {**mapping, "layers": layers}}


def _with_largest_tolerance(plain: Plain) -> Plain:
    """Files without rules for layers have one tolerance."""
    device = _part(plain, "device")
    return {
        **plain,
        "device": {**device, "largest_tolerance_fraction": device.get("tolerance_fraction")},
    }


def _part(plain: Mapping[str, Any], name: str) -> Plain:
    found = plain.get(name)
    return dict(found) if isinstance(found, dict) else {}


#: By format: what files older than a minor version need, oldest first.
_STEPS: Mapping[str, Mapping[int, Callable[[Plain], Plain]]] = {
    "certificate": {1: _certificate_1_1, 2: _certificate_1_2, 5: _certificate_1_5},
    "sweep": {2: _with_largest_tolerance},
}
