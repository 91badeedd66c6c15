"""The files of a certificate: each appears whole or not at all, and certificate.json last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.read_record import read_result
from cimrobust.certificate.result_names import CERTIFICATE
from cimrobust.errors import SelfCheckError, UsageError
from cimrobust.files import write_whole
from cimrobust.input_file import printable
from cimrobust.json_file import parse_json

if TYPE_CHECKING:
    from cimrobust.certificate.models.result_file import ResultFile


def canonical_json(record: BaseModel) -> str:
    """Return the text of a result file: fixed key order, two spaces, no NaN.

    The same for the same result.
    """
    return json.dumps(record.model_dump(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def atomic_text(path: Path, text: str) -> None:
    """Write a text file under its final name only when it is complete.

    Raises:
        UsageError: The place cannot be written to.
    """
    atomic_bytes(path, text.encode("utf-8"))


def atomic_bytes(path: Path, content: bytes) -> None:
    """Write a file under its final name only when it is complete.

    Raises:
        UsageError: The place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as err:
        raise UsageError(
            f"output must be writable, got {err.strerror} ({path}); choose another folder"
        ) from err


def check_own(record: ResultFile) -> None:
    """Raise SelfCheckError unless a result of our own is read again as what it is.

    It is read as everybody's files are: from its JSON, by its model and strictly.
    """
    try:
        again = type(record).model_validate(parse_json(canonical_json(record)), strict=True)
    except ValueError as err:
        raise SelfCheckError(
            f"{record.NAME} must follow its schema, got {printable(err)[:300]}; report this"
        ) from err
    if again.model_dump() != record.model_dump():
        raise SelfCheckError(
            f"{record.NAME} must be read as it was written, got another one; report this"
        )


def read_certificate(directory: Path) -> CertificateModel:
    """Read and check somebody's certificate, of this version of the format or an older one.

    Raises:
        InputRefusedError: It is missing, not JSON, or does not follow the schema; names the place.
    """
    hint = "is this the folder that `cimrobust analyze --out` wrote?"
    return read_result(directory / CERTIFICATE, CertificateModel, hint=hint)
