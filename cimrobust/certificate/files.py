"""The files of a certificate: each appears whole or not at all, and certificate.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from cimrobust.certificate.models import json_schema
from cimrobust.errors import InputRefusedError, SelfCheckError, UsageError
from cimrobust.files import write_whole
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.json_file import parse_json

CERTIFICATE = "certificate.json"
REPORT = "certificate.html"
TRIALS = "trials.parquet"
CERTIFIED = "certified.parquet"
WITNESS = "witness"
_MAX_BYTES = 256 * 2**20


def canonical_json(certificate: Mapping[str, Any]) -> str:
    """Return the text of certificate.json: fixed key order, two spaces, no NaN; the same for the same certificate."""
    return json.dumps(certificate, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def atomic_text(path: Path, text: str) -> None:
    """Write a text file under its final name only when it is complete.

    Raises:
        UsageError: The place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode("utf-8"))
    except OSError as err:
        raise UsageError(f"output must be writable, got {err.strerror} ({path}); choose another folder") from err


def check_certificate(certificate: Mapping[str, Any]) -> None:
    """Raise SelfCheckError unless a certificate of our own follows the published schema."""
    error = next(iter(_validator().iter_errors(certificate)), None)
    if error is not None:
        raise SelfCheckError(f"certificate must follow its schema, got {error.message} ({error.json_path}); report this")


def read_certificate(directory: Path) -> dict[str, Any]:
    """Read and check somebody's certificate.

    Raises:
        InputRefusedError: It is missing, not JSON, or does not follow the schema; names the place.
    """
    path = directory / CERTIFICATE
    hint = "is this the folder that `cimrobust analyze --out` wrote?"
    content = read_input(path, FileKind("certificate", _MAX_BYTES, missing=InputRefusedError, hint=hint))
    try:
        certificate = parse_json(content)
    except ValueError as err:
        raise InputRefusedError(f"certificate must be JSON, got: {printable(err)[:200]} ({printable(path)}); {hint}") from err
    error = next(iter(_validator().iter_errors(certificate)), None)
    if error is not None:
        message = error.message if len(error.message) < 300 else f"{error.message[:300]}..."
        raise InputRefusedError(f"certificate must follow its schema, got {message} ({path}, {error.json_path}); {hint}")
    checked: dict[str, Any] = certificate
    return checked


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())
