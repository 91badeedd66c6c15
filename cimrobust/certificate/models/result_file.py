"""A result file as a whole, and the words of verdicts."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PrivateAttr

from cimrobust.records import Record

Word = Literal["PASS_CERTIFIED", "PASS_STATISTICAL", "FAIL", "INCONCLUSIVE"]
Status = Literal["met", "refuted", "open"]
Strength = Literal["proved", "statistical", "searched", "measured"]
Reach = Literal["these", "beyond"]

#: Where published schemas are identified; `cimrobust schema NAME` prints them.
SCHEMA_HOME = "https://cimrobust.org/schemas"


class ResultFile(Record):
    """A whole result file, of one format and one version of it."""

    NAME: ClassVar[str]
    VERSION: ClassVar[str]
    _stated_version: str | None = PrivateAttr(default=None)
    _file_sha256: str | None = PrivateAttr(default=None)

    def __repr__(self) -> str:
        """Name the format; `model_dump` gives everything that the file says."""
        return f"<{type(self).__name__}: format {self.NAME} {self.stated_version}>"

    @property
    def stated_version(self) -> str:
        """Version of the format that the file stated.

        That of this record where it was not read from a file.
        """
        return self._stated_version or self.VERSION

    @property
    def file_sha256(self) -> str | None:
        """SHA-256 of the file that the record was read from, hexadecimal.

        None: it was not read from a file.
        """
        return self._file_sha256

    def note_file(self, version: str, digest: str) -> None:
        """Note of which version the file was that the record was read from, and its SHA-256."""
        self._stated_version, self._file_sha256 = version, digest

    @classmethod
    def published_schema(cls) -> dict[str, object]:
        """Return the JSON Schema (2020-12) of the file."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{SCHEMA_HOME}/{cls.NAME}-{cls.VERSION}.json",
            **cls.model_json_schema(),
        }
