"""A file as results name it: by its name alone, and its digest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedDigest:
    """A file by its name alone, and its SHA-256 digest."""

    name: str
    sha256: str
