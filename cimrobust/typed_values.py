"""Values of dataclasses and records as JSON and arrays, and back.

A value is read as the type that the reader expects, never as one that the text names: fields,
kinds of numbers, types and ranks of arrays are checked, so that text of anybody can be read.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from pydantic import BaseModel

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

T = TypeVar("T")

#: Arrays by the number that the text names them by.
Arrays = dict[str, np.ndarray]

_NUMBERS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_ROWS = (tuple, list, Sequence, Iterable)


def as_plain(value: Any, arrays: Arrays) -> Any:
    """Return a value as JSON; its arrays are added to `arrays`, one that occurs twice only once.

    Raises:
        TypeError: It holds something that is no number, text, array, dataclass or record, and no
            tuple, list or mapping of such.
    """
    seen: dict[int, str] = {}
    return _Plain(arrays, seen).of(value)


def from_plain(kind: type[T], plain: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> T:
    """Return the value of a type that `as_plain` wrote.

    Raises:
        ValueError: It is no value of the type; says what is not.
    """
    made: T = _read(kind, plain, arrays, kind.__name__)
    return made


@dataclasses.dataclass(frozen=True)
class _Plain:
    """Writes one value."""

    arrays: Arrays
    seen: dict[int, str]

    def of(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            return self.of(value.item())
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"number": repr(float(value))}
        if isinstance(value, np.ndarray):
            return {"array": self._array(value)}
        if isinstance(value, BaseModel):
            return {name: self.of(getattr(value, name)) for name in type(value).model_fields}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {name: self.of(getattr(value, name)) for name in _fields(type(value))}
        if isinstance(value, Mapping):
            return [[self.of(key), self.of(entry)] for key, entry in value.items()]
        if isinstance(value, tuple | list):
            return [self.of(entry) for entry in value]
        raise TypeError(f"value must be made of numbers, texts and arrays, got {type(value)}")

    def _array(self, array: Shaped[np.ndarray, "..."]) -> str:
        known = self.seen.get(id(array))
        if known is None:
            known = self.seen[id(array)] = str(len(self.arrays))
            self.arrays[known] = array
        return known


def _read(
    kind: Any, plain: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]], where: str
) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _read(get_args(kind)[0], plain, arrays, where)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), plain, arrays, where)
    if origin is Literal:
        return _required(plain, plain in get_args(kind), where)
    if kind is None or kind is type(None):
        return _required(plain, plain is None, where)
    if kind in (bool, str):
        return _required(plain, type(plain) is kind, where)
    if kind is int:
        return _required(plain, type(plain) is int, where)
    if kind is float:
        return _number(plain, where)
    if kind is np.ndarray or origin is np.ndarray or hasattr(kind, "array_type"):
        return _array(kind, plain, arrays, where)
    return _structure(kind, origin, plain, arrays, where)


def _structure(
    kind: Any, origin: Any, plain: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]], where: str
) -> Any:
    """Read a value that is made of others."""
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        of_key, of_entry = get_args(kind)
        pairs = [_row(pair, 2, where) for pair in _row(plain, None, where)]
        return {
            _read(of_key, key, arrays, where): _read(of_entry, entry, arrays, f"{where}[{key}]")
            for key, entry in pairs
        }
    if origin in _ROWS:
        return _rows(origin, get_args(kind), plain, arrays, where)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = _hints(kind)
        entries = _row(plain, len(kind._fields), where)
        return kind(
            *(
                _read(hints[name], entry, arrays, f"{where}.{name}")
                for name, entry in zip(kind._fields, entries, strict=True)
            )
        )
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        names = tuple(kind.model_fields) if issubclass(kind, BaseModel) else _fields(kind)
        if not isinstance(plain, dict) or set(plain) != set(names):
            raise ValueError(f"{where} must have the fields {', '.join(names)}")
        hints = _hints(kind)
        return kind(
            **{name: _read(hints[name], plain[name], arrays, f"{where}.{name}") for name in names}
        )
    raise ValueError(f"{where} cannot be read: no rule for {kind}")


def _rows(
    origin: Any,
    entries: tuple[Any, ...],
    plain: Any,
    arrays: Mapping[str, Shaped[np.ndarray, "..."]],
    where: str,
) -> Any:
    if origin is tuple and not (len(entries) == 2 and entries[1] is Ellipsis):
        row = _row(plain, len(entries), where)
        kinds = entries
    else:
        row = _row(plain, None, where)
        kinds = (entries[0],) * len(row)
    made = (
        _read(kind, entry, arrays, f"{where}[{index}]")
        for index, (kind, entry) in enumerate(zip(kinds, row, strict=True))
    )
    return list(made) if origin is list else tuple(made)


def _one_of(
    kinds: tuple[Any, ...], plain: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]], where: str
) -> Any:
    for kind in kinds:
        try:
            return _read(kind, plain, arrays, where)
        except ValueError:
            continue
    raise ValueError(f"{where} must be one of {kinds}")


def _number(plain: Any, where: str) -> float:
    if isinstance(plain, dict) and list(plain) == ["number"] and plain["number"] in _NUMBERS:
        return _NUMBERS[plain["number"]]
    _required(plain, type(plain) in (int, float), where)
    return float(plain)


def _array(
    kind: Any, plain: Any, arrays: Mapping[str, Shaped[np.ndarray, "..."]], where: str
) -> Shaped[np.ndarray, "..."]:
    named = plain.get("array") if isinstance(plain, dict) and len(plain) == 1 else None
    if not isinstance(named, str) or named not in arrays:
        raise ValueError(f"{where} must be one of the arrays of the file")
    array = arrays[named]
    if hasattr(kind, "array_type") and not isinstance(array, kind):
        raise ValueError(f"{where} must be {kind}, got {array.dtype} of shape {array.shape}")
    return array


def _row(plain: Any, length: int | None, where: str) -> list[Any]:
    if not isinstance(plain, list) or length not in (None, len(plain)):
        raise ValueError(f"{where} must be a list of {'any' if length is None else length} entries")
    return plain


def _required(plain: Any, held: bool, where: str) -> Any:
    if not held:
        raise ValueError(f"{where} must be of another type, got {type(plain).__name__}")
    return plain


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)
