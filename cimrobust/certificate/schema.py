"""Writes the published schemas: ``python -m cimrobust.certificate.schema``."""

from __future__ import annotations

import json
from pathlib import Path

from cimrobust.certificate.models import json_schema
from cimrobust.certificate.models.swept import sweep_json_schema


def write_schema() -> None:
    """Write schema.json and sweep_schema.json beside this file from the models."""
    for name, schema in (("schema.json", json_schema()), ("sweep_schema.json", sweep_json_schema())):
        Path(__file__).with_name(name).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
