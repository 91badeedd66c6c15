"""The published schemas: of the current version of each format from its model, of older ones as they were released.

``python -m cimrobust.certificate.schema`` writes those of the current versions into `schemas/`.
"""

from __future__ import annotations

import json
from pathlib import Path

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.base import Record
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.errors import UsageError

FOLDER = Path(__file__).with_name("schemas")
#: Model of the current version by name of the format.
FORMATS: dict[str, type[Record]] = {kind.NAME: kind for kind in (CertificateModel, SweepModel, Retraining)}


def schema_file(name: str, version: str | None = None) -> Path:
    """Return the file of a published schema.

    Args:
        name: Of `FORMATS`.
        version: As the files state it; None: the current one.

    Raises:
        UsageError: There is no such format or version.
    """
    if name not in FORMATS:
        raise UsageError(f"schema must be one of {', '.join(sorted(FORMATS))}, got '{name}'")
    wanted = version or FORMATS[name].VERSION
    known = {path.stem.removeprefix(f"{name}-"): path for path in sorted(FOLDER.glob(f"{name}-*.json"))}
    if wanted not in known:
        raise UsageError(f"version of the {name} schema must be one of {', '.join(known)}, got '{wanted}' (--version)")
    return known[wanted]


def write_schemas() -> None:
    """Write the schemas of the current versions from their models."""
    for name, kind in FORMATS.items():
        text = json.dumps(kind.published_schema(), indent=2) + "\n"
        (FOLDER / f"{name}-{kind.VERSION}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
