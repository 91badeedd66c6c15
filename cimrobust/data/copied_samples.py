"""Samples that stand in the evaluation data more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

# Numbers of a sample that are compared first: where these differ, samples do.
_FIRST_LOOK = 256


def num_distinct(inputs: Iterable[Shaped[np.ndarray, "samples ..."]], *, enough: int) -> int:
    """Count samples that differ in the bytes of at least one input.

    Args:
        inputs: Samples of every graph input that has some, samples first, as many in each.
        enough: Stop where at least so many are known to differ.

    Returns:
        Number of distinct samples, or a number of at least `enough` that is not larger.
    """
    rows = [array.reshape(len(array), -1) for array in inputs]
    looked_at = [
        part[:, np.linspace(0, part.shape[1] - 1, min(part.shape[1], _FIRST_LOOK)).astype(np.int64)]
        for part in rows
        if part.shape[1]
    ]
    first = _count(looked_at)
    return first if first >= enough else _count(rows)


def _count(rows: list[Shaped[np.ndarray, "samples _numbers"]]) -> int:
    found = {
        hashlib.blake2b(b"".join(part[index].tobytes() for part in rows), digest_size=16).digest()
        for index in range(len(rows[0]) if rows else 0)
    }
    return len(found)
