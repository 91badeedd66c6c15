"""Writes the published schemas: ``python -m cimrobust.certificate.schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cimrobust.certificate.models import json_schema
from cimrobust.certificate.models.retrained import retraining_schema
from cimrobust.certificate.models.suggested import suggest_json_schema
from cimrobust.certificate.models.swept import sweep_json_schema

#: File beside this one by what it is the schema of.
PUBLISHED = {
    "schema.json": json_schema,
    "sweep_schema.json": sweep_json_schema,
    "retrain_schema.json": retraining_schema,
    "suggest_schema.json": suggest_json_schema,
}


def write_schema() -> None:
    """Write the published schemas beside this file from the models."""
    for name, make in PUBLISHED.items():
        schema: dict[str, Any] = make()
        Path(__file__).with_name(name).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
