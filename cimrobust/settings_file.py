"""Settings files.

TOML checked against a pydantic model, or a dataclass whose annotations pydantic reads, with every
problem of the file in one sentence.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from cimrobust.errors import UsageError
from cimrobust.input_file import FileKind, printable, read_input

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 32
_MAX_SHOWN = 12
_HELP = "docs/reference has every key, docs/how-to examples"

ModelT = TypeVar("ModelT")


def read_settings(path: Path, model: type[ModelT], *, what: str) -> ModelT:
    """Read a TOML file into a model.

    Args:
        path: The file.
        model: What it has to look like; should forbid extra keys.
        what: What the file is called in messages, e.g. ``"device profile"``.

    Raises:
        UsageError: There is no such file, it is not TOML, or it does not fit; names the file and
            every key.
    """
    return check_settings(parse_toml(path, what=what), model, where=str(path), what=what)


def parse_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file; raises UsageError naming file and line."""
    content = read_input(path, FileKind(what, _MAX_BYTES, refused=UsageError))
    where = printable(path)
    try:
        # Editors of Windows begin UTF-8 with a byte order mark.
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as err:
        raise UsageError(
            f"{what} must be UTF-8 text, got byte {err.object[err.start]:#04x} at {err.start}"
            f" ({where}); write it as TOML"
        ) from err
    except RecursionError as err:
        raise UsageError(
            f"{what} must not nest deeply, got more levels than can be read ({where}); {_HELP}"
        ) from err
    except (
        ValueError
    ) as err:  # TOMLDecodeError, and what int() says of a number with thousands of digits
        raise UsageError(f"{what} must be TOML, got: {printable(err)} ({where}); {_HELP}") from err
    problem = _unreadable(tables, _MAX_DEPTH)
    if problem:
        raise UsageError(
            f"{what} must hold values that can be read, got {problem} ({where}); {_HELP}"
        )
    return tables


def _unreadable(value: Any, depth: int) -> str | None:
    """Return what no setting can be.

    Too many levels of tables, or a whole number that 64 bits do not hold; None if there is none.
    """
    if depth == 0:
        return f"tables nested in more than {_MAX_DEPTH} levels"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return f"a whole number of {value.bit_length()} bits, where 64 bits are read"
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((problem for part in parts if (problem := _unreadable(part, depth - 1))), None)


def check_settings(
    tables: Mapping[str, Any], model: type[ModelT], *, where: str, what: str
) -> ModelT:
    """Fit parsed tables to a model; raises UsageError that lists every problem with its key.

    A pydantic model is read strictly; a dataclass as strictly as its annotations say.
    """
    try:
        # Every class can be hashed.
        reader: TypeAdapter[ModelT] = _reader(model)  # type: ignore[arg-type]
        return reader.validate_python(dict(tables), strict=None if is_dataclass(model) else True)
    except ValidationError as err:
        order = {key: place for place, key in enumerate(_annotations(model))}
        errors = sorted(
            err.errors(include_url=False),
            key=lambda problem: (
                order.get(str(problem["loc"][0]), len(order)) if problem["loc"] else 0
            ),
        )
        problems = "; ".join(_sentence(problem, model) for problem in errors[:_MAX_SHOWN])
        more = f"; and {len(errors) - _MAX_SHOWN} more" if len(errors) > _MAX_SHOWN else ""
        raise UsageError(
            f"{what} must follow its format, got: {problems}{more} ({printable(where)}); {_HELP}"
        ) from err


@cache
def _reader(model: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _sentence(problem: ErrorDetails, model: type[Any]) -> str:
    # In angle brackets: which of several shapes a key was read as, see device.curve.
    place = tuple(part for part in problem["loc"] if not str(part).startswith("<"))
    key = printable(".".join(str(part) for part in place))[:200] or "file"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_at(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.0)
        return (
            f"unknown key '{key}', nearest known key '{near[0]}'"
            if near
            else f"unknown key '{key}'"
        )
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "dataclass_type"):
        message = "must be a table"
    value = problem["input"]
    shown = "" if isinstance(value, dict | list) else f", got {printable(repr(value))[:100]}"
    return f"key '{key}': {message}{shown}"


def _keys_at(model: type[Any], place: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for index, part in enumerate(place):
        if isinstance(part, int):
            continue
        is_list = index + 1 < len(place) and isinstance(place[index + 1], int)
        annotation = _annotations(current).get(part)
        if annotation is None:
            return []
        current = _listed_table_in(annotation) if is_list else _table_in(annotation)
    return list(_annotations(current))


def _annotations(kind: Any) -> dict[str, Any]:
    """Return the annotation of every key of a table, as files name it."""
    if is_dataclass(kind):
        return get_type_hints(kind)
    known = getattr(kind, "model_fields", {})
    return {field.alias or name: field.annotation for name, field in known.items()}


def _listed_table_in(annotation: Any) -> Any:
    """Return the table of a list's entries, where a key may hold one table or a list of tables."""
    if get_origin(annotation) in (list, tuple):
        return _table_in(annotation)
    return next(
        (found for part in get_args(annotation) if (found := _listed_table_in(part)) is not None),
        None,
    )


def _table_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and (
        is_dataclass(annotation) or issubclass(annotation, BaseModel)
    ):
        return annotation
    return next(
        (found for part in get_args(annotation) if (found := _table_in(part)) is not None), None
    )
