"""Settings files: TOML checked against a pydantic model, with every problem of the file in one sentence."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cimrobust.errors import UsageError

_MAX_BYTES = 1_000_000

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_settings(path: Path, model: type[ModelT], *, what: str) -> ModelT:
    """Read a TOML file into a model.

    Args:
        path: The file.
        model: What it has to look like; should forbid extra keys.
        what: What the file is called in messages, e.g. ``"device profile"``.

    Raises:
        UsageError: There is no such file, it is not TOML, or it does not fit; names the file and every key.
    """
    return check_settings(parse_toml(path, what=what), model, where=str(path), what=what)


def parse_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file; raises UsageError naming file and line."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{what} must be at most {_MAX_BYTES} bytes, got {path.stat().st_size} ({path}); is this the right file?")
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as err:
        raise UsageError(f"{what} must be a readable file, got {err.strerror} ({path}); check the path") from err
    except UnicodeDecodeError as err:
        raise UsageError(
            f"{what} must be UTF-8 text, got byte {err.object[err.start]:#04x} at {err.start} ({path}); write it as TOML"
        ) from err
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"{what} must be TOML, got: {err} ({path}); see the README for an example") from err
    except RecursionError as err:
        raise UsageError(f"{what} must not nest deeply, got more levels than can be read ({path}); see the README for an example") from err


def check_settings(tables: Mapping[str, Any], model: type[ModelT], *, where: str, what: str) -> ModelT:
    """Fit parsed tables to a model; raises UsageError that lists every problem with its key."""
    try:
        return model.model_validate(dict(tables), strict=True)
    except ValidationError as err:
        problems = "; ".join(_sentence(problem, model) for problem in err.errors(include_url=False))
        raise UsageError(f"{what} must follow its format, got: {problems} ({where}); see the README for an example") from err


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    # In angle brackets: which of several shapes a key was read as, see device.schema.
    place = tuple(part for part in problem["loc"] if not str(part).startswith("<"))
    key = ".".join(str(part) for part in place) or "file"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.0)
        return f"unknown key '{key}', nearest known key '{near[0]}'" if near else f"unknown key '{key}'"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict | list) else f", got {value!r}"
    return f"key '{key}': {message}{shown}"


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    current: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = _model_in(field.annotation)
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
