"""The files of the published schemas, of every format and every version of it.

Reads their names alone: `published_schemas` makes those of today from their models.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cimrobust.errors import UsageError

FOLDER = Path(__file__).with_name("schemas")


@cache
def schema_versions() -> dict[str, dict[str, Path]]:
    """Return the file of every published schema by format and version, oldest first."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(FOLDER.glob("*.json"), key=_age):
        name, _, version = path.stem.rpartition("-")
        found.setdefault(name, {})[version] = path
    return found


def schema_file(name: str, version: str | None = None) -> Path:
    """Return the file of a published schema.

    Args:
        name: Of `published_schemas.FORMATS` or `OUTPUTS`.
        version: As the files state it; None: the newest.

    Raises:
        UsageError: There is no such format or version.
    """
    published = schema_versions()
    if name not in published:
        raise UsageError(f"schema must be one of {', '.join(sorted(published))}, got '{name}'")
    known = published[name]
    wanted = list(known)[-1] if version is None else version
    if wanted not in known:
        raise UsageError(
            f"version of the {name} schema must be one of {', '.join(known)}, got '{wanted}'"
            " (--version)"
        )
    return known[wanted]


def _age(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.stem.rpartition("-")[2].split("."))
