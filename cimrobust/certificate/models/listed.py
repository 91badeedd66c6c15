"""The manifest of a folder of results: every file that belongs to it, with its digest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.records import Count, Record

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ListedFile(Record):
    """One file of the folder."""

    path: str
    """Path below the folder, with forward slashes."""
    bytes: Count
    """Its size."""
    sha256: Sha256
    """Its SHA-256 digest, hexadecimal."""


class Manifest(ResultFile):
    """Every file of a folder of results but the manifest itself and signatures."""

    NAME = "manifest"
    VERSION = "1.0"

    schema_version: Literal["1.0"]
    """Version of this format, MAJOR.MINOR."""
    files: list[ListedFile]
    """The files, sorted by path."""
