"""Reads result files of the current version of their format and of every older one.

A file of an older version is brought to the form of the current one in `upgrades`, and then
validated like a file of today. Nothing else in the package knows that older versions exist.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.upgrades import upgraded
from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.json_file import parse_json

_MAX_BYTES = 256 * 2**20
_MAX_MESSAGE = 300

# One text a version: checks of what a version had go by it.
_VERSION = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})(?:\.0)?")

Read = TypeVar("Read", bound=ResultFile)


@dataclass(frozen=True, order=True)
class Version:
    """Version of a file format.

    A file can be read by every tool of its major version that is not older.
    """

    major: int
    minor: int

    @classmethod
    def of(cls, text: object) -> Version:
        """Read ``"1.5"``, or ``"1.4.0"`` as files were marked before 1.5.

        Raises:
            ValueError: It is neither.
        """
        found = _VERSION.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"schema_version must be like '1.5', got {str(text)[:40]!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """Return it as files state it."""
        return f"{self.major}.{self.minor}"


def read_result(path: Path, kind: type[Read], *, hint: str, max_bytes: int = _MAX_BYTES) -> Read:
    """Read a result file.

    Args:
        path: The file.
        kind: Model of what it holds.
        hint: What to do if it cannot be read.
        max_bytes: Most bytes that such a file may have.

    Raises:
        InputRefusedError: It is missing, too large, not JSON, of a version that is not known here,
            or does not follow its schema; names the place.
    """
    plain, digest = _read_json(path, kind, hint, max_bytes)
    try:
        stated, known = Version.of(plain.get("schema_version")), Version.of(kind.VERSION)
    except ValueError as err:
        raise InputRefusedError(
            f"{kind.NAME} must state its version, got: {err} ({path}); {hint}"
        ) from err
    if stated.major != known.major or stated > known:
        raise InputRefusedError(
            f"{kind.NAME} must be of schema version {known.major}.0 to {known}, got {stated}"
            f" ({path}); use the version of cimrobust that made it, or a later one"
        )
    if stated == known and plain["schema_version"] != kind.VERSION:
        raise InputRefusedError(
            f"{kind.NAME} must state version '{kind.VERSION}' so, got"
            f" '{printable(plain['schema_version'])}' ({path}); {hint}"
        )
    if stated < known:
        plain = upgraded(plain, kind, minor=stated.minor)
    try:
        record = kind.model_validate({**plain, "schema_version": kind.VERSION}, strict=True)
    except ValidationError as err:
        raise InputRefusedError(
            f"{kind.NAME} must follow schema version {stated}, got {_first(err)} ({path}); {hint}"
        ) from err
    record.note_file(str(stated), digest)
    return record


def read_plain(
    path: Path, kind: type[ResultFile], *, hint: str, max_bytes: int = _MAX_BYTES
) -> dict[str, Any]:
    """Read what a result file states, as it states it.

    Arguments and errors as for `read_result`, but nothing of it is checked.
    """
    return _read_json(path, kind, hint, max_bytes)[0]


def _read_json(
    path: Path, kind: type[ResultFile], hint: str, max_bytes: int
) -> tuple[dict[str, Any], str]:
    """Return the content of a file and its digest."""
    content = read_input(path, FileKind(kind.NAME, max_bytes, missing=InputRefusedError, hint=hint))
    try:
        plain = parse_json(content)
    except ValueError as err:
        raise InputRefusedError(
            f"{kind.NAME} must be JSON, got: {printable(err)[:200]} ({printable(path)}); {hint}"
        ) from err
    if not isinstance(plain, dict):
        raise InputRefusedError(
            f"{kind.NAME} must be a JSON object, got {type(plain).__name__} ({printable(path)});"
            f" {hint}"
        )
    return plain, hashlib.sha256(content).hexdigest()


def _first(err: ValidationError) -> str:
    """Return the first thing that is wrong, and where."""
    wrong = err.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in wrong["loc"])
    text = f"{wrong['msg']} at ${place}: {wrong['input']!r}"
    text = printable(text)
    return text if len(text) < _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
