"""Rounding that never leaves an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32


def toward_zero(values: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return values as float32, none larger in magnitude than before."""
    rounded = values.astype(np.float32)
    outside = np.abs(rounded.astype(np.float64)) > np.abs(values)
    return np.where(outside, np.nextafter(rounded, np.float32(0)), rounded).astype(np.float32)
