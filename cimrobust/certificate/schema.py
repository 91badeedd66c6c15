"""Writes the published schema: ``python -m cimrobust.certificate.schema``."""

from __future__ import annotations

import json
from pathlib import Path

from cimrobust.certificate.models import json_schema


def write_schema() -> None:
    """Write schema.json beside this file from the models."""
    path = Path(__file__).with_name("schema.json")
    path.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_schema()
