"""Arrays in the element types that a graph wants.

A value that a type cannot hold is an error, never another value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.errors import UsageError


def cast(
    array: Shaped[np.ndarray, "*shape"], dtype: str, where: str
) -> Shaped[np.ndarray, "*shape"]:
    """Return an array in another element type, contiguous; no copy where it has the type already.

    Args:
        array: Finite numbers, or booleans; for text only its own type.
        dtype: NumPy name of the type.
        where: File and input, for messages.

    Raises:
        UsageError: The type cannot hold a value: out of its range, or a fraction in whole numbers.
    """
    if array.dtype == np.dtype(dtype):
        return np.ascontiguousarray(array).reshape(array.shape)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.ascontiguousarray(array.astype(dtype)).reshape(array.shape)
            held = np.isfinite(made) if made.dtype.kind == "f" else np.asarray(made == array)
    except (TypeError, ValueError) as err:
        raise UsageError(
            f"values must convert to {dtype}, got {array.dtype} ({where}); state a dtype that does"
        ) from err
    if not held.all():
        wrong = array[~held].ravel()[0]
        what = "finite numbers" if made.dtype.kind == "f" else "whole numbers in its range"
        raise UsageError(
            f"values must be {what} as {dtype}, got {wrong} ({where}, key 'dtype'); change the"
            " steps or the dtype"
        )
    return made


def constant(value: Any, dtype: str, where: str) -> Shaped[np.ndarray, "..."]:
    """Return numbers written in a file as an array.

    Args:
        value: A number, or nested lists of numbers.
        dtype: NumPy name of the element type.
        where: File and input, for messages.

    Raises:
        UsageError: The lists differ in length, hold something else than numbers, or the type cannot
            hold a number.
    """
    try:
        array = np.asarray(value)
    except ValueError as err:
        raise UsageError(
            f"'value' must be a number or lists of equal length, got lists that differ ({where});"
            " correct it"
        ) from err
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise UsageError(
            f"'value' must hold finite numbers that fit 64 bits, got others ({where}); correct it"
        )
    return cast(array, dtype, where)
