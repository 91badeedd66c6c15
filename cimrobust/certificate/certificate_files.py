"""The files of a certificate: each appears whole or not at all, and certificate.json last."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator
from pydantic import BaseModel

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.certificate.read_record import read_result
from cimrobust.errors import SelfCheckError, UsageError
from cimrobust.files import write_whole

CERTIFICATE = "certificate.json"
REPORT = "certificate.html"
CHANGE = "change.html"
TRIALS = "trials.parquet"
CERTIFIED = "certified.parquet"
WITNESS = "witness"


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


def check_own(record: ResultFile, what: str) -> None:
    """Raise SelfCheckError unless a result of our own follows its published schema.

    Args:
        record: The result.
        what: What it is, for the message.
    """
    error = next(iter(_validator(type(record)).iter_errors(record.model_dump())), None)
    if error is not None:
        raise SelfCheckError(
            f"{what} must follow its schema, got {error.message} ({error.json_path}); report this"
        )


def read_certificate(directory: Path) -> CertificateModel:
    """Read and check somebody's certificate, of this version of the format or an older one.

    Raises:
        InputRefusedError: It is missing, not JSON, or does not follow the schema; names the place.
    """
    hint = "is this the folder that `cimrobust analyze --out` wrote?"
    return read_result(directory / CERTIFICATE, CertificateModel, hint=hint)


@cache
def _validator(kind: type[ResultFile]) -> Draft202012Validator:
    return Draft202012Validator(kind.published_schema())
