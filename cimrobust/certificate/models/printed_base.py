"""What commands print with `--json`: one format each, named after the command.

The printed text itself states no version: the schema does, `cimrobust schema NAME`.
"""

from __future__ import annotations

from typing import ClassVar

from cimrobust.certificate.models.result_file import SCHEMA_HOME, ResultFile
from cimrobust.records import Record


class Printed(ResultFile):
    """What a command prints with `--json`."""

    VERSION = "1.0"


class PrintedList(Printed):
    """What a command prints with `--json` where that is a list."""

    ITEM: ClassVar[type[Record]]

    @classmethod
    def published_schema(cls) -> dict[str, object]:
        """Return the JSON Schema (2020-12) of the list."""
        item = cls.ITEM.model_json_schema()
        definitions = item.pop("$defs", {})
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"{SCHEMA_HOME}/{cls.NAME}-{cls.VERSION}.json",
            "title": cls.__name__,
            "description": cls.__doc__,
            "type": "array",
            "items": {"$ref": f"#/$defs/{cls.ITEM.__name__}"},
            "$defs": definitions | {cls.ITEM.__name__: item},
        }
