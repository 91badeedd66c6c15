"""What all blocks of a result file are made of."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Word = Literal["PASS_CERTIFIED", "PASS_STATISTICAL", "FAIL", "INCONCLUSIVE"]
Status = Literal["met", "refuted", "open"]
Strength = Literal["proved", "statistical", "searched", "measured"]
Reach = Literal["these", "beyond"]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

#: Where published schemas are identified; `cimrobust schema NAME` prints them.
SCHEMA_HOME = "https://cimrobust.org/schemas"


class Block(BaseModel):
    """Base of all blocks: no unknown fields, no NaN, no infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class Record(Block):
    """A whole result file, of one format and one version of it."""

    NAME: ClassVar[str]
    VERSION: ClassVar[str]
    _stated_version: str | None = PrivateAttr(default=None)
    _file_sha256: str | None = PrivateAttr(default=None)

    @property
    def stated_version(self) -> str:
        """Version of the format that the file stated.

        That of this record where it was not read from a file.
        """
        return self._stated_version or self.VERSION

    @stated_version.setter
    def stated_version(self, version: str) -> None:
        self._stated_version = version

    @property
    def file_sha256(self) -> str | None:
        """SHA-256 of the file that the record was read from, hexadecimal.

        None: it was not read from a file.
        """
        return self._file_sha256

    @file_sha256.setter
    def file_sha256(self, digest: str) -> None:
        self._file_sha256 = digest

    @classmethod
    def published_schema(cls) -> dict[str, object]:
        """Return the JSON Schema (2020-12) of the file."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{SCHEMA_HOME}/{cls.NAME}-{cls.VERSION}.json",
            **cls.model_json_schema(),
        }
