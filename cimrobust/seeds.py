"""Named random streams.

Every random number is a function of one seed and of names, never of call order.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_key(seed: int, *names: str | int) -> int:
    """Derive a 64-bit key from a seed and the names of a stream.

    Args:
        seed: Seed of the run, any integer.
        names: What the stream is for, e.g. ``"programming"`` and the name of an initializer.

    Returns:
        The first 8 bytes, little endian, of the SHA-256 digest of the parts, each preceded by its
        length.
    """
    digest = hashlib.sha256()
    for part in (str(seed), *map(str, names)):
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return int.from_bytes(digest.digest()[:8], "little")


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator of its own for the named stream; see `stream_key`."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *names)))
