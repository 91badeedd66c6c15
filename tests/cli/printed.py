"""What commands print with --json, against its published schema."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from cimrobust.certificate.schema_files import schema_file


def check_printed(name: str, text: str) -> Any:
    """Return what was printed, once it follows the schema of that name."""
    printed = json.loads(text)
    schema = json.loads(schema_file(name).read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(printed)
    return printed
