"""Rounding that never leaves an interval."""

from __future__ import annotations

import numpy as np


def toward_zero(values: np.ndarray) -> np.ndarray:
    """Return values as float32, none larger in magnitude than before."""
    rounded = values.astype(np.float32)
    outside = np.abs(rounded.astype(np.float64)) > np.abs(values)
    return np.where(outside, np.nextafter(rounded, np.float32(0)), rounded).astype(np.float32)
