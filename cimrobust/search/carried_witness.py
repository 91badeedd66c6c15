"""The witness of one network, carried over to another with the same layers.

Every weight at the same fraction of its own interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.errors import UsageError
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.search.witness import DEVIATIONS_FILE

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Shaped
    from cimrobust.mapping.box import Pattern
    from cimrobust.mapping.placement import Placement


def transferred_pattern(folder: Path, placement: Placement) -> Pattern:
    """Return the pattern that a witness is in another box.

    Args:
        folder: Folder of the witness, as `write_witness` wrote it.
        placement: Layers of the other network.

    Raises:
        UsageError: The layers are not the same.
        InputRefusedError: There is no such witness, or its file is corrupt.
    """
    path = folder / DEVIATIONS_FILE
    tensors = read_pattern(path, what="witness")
    pattern: Pattern = {}
    for name, tensor in placement.tensors.items():
        parts = [tensors.get(f"{name}.{part}") for part in ("lo", "hi", "deviation")]
        if any(part is None or part.shape != tensor.shape for part in parts):
            raise UsageError(
                f"witness must deviate the same layers, got none of shape {tensor.shape} for"
                f" '{name}' ({path}); give the witness of the same network"
            )
        pattern[name] = _carried(parts, *tensor.limits())
    return pattern


def _carried(
    parts: list[Shaped[np.ndarray, "*weight"] | None],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
) -> Float32[np.ndarray, "*weight"]:
    low, high, deviation = (np.asarray(part, np.float64) for part in parts)
    end = np.where(deviation > 0, high, low)
    fraction = np.divide(deviation, end, out=np.zeros_like(end), where=end != 0)
    moved = np.where(deviation > 0, hi, lo) * np.clip(fraction, 0.0, 1.0)
    return np.asarray(np.clip(moved, lo, hi), dtype=np.float32)
