"""Preprocessing.

The steps of a data description, in order, on an array whose first axis counts samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.casting import cast
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.description import Step


def apply_steps(
    array: Shaped[np.ndarray, "..."], steps: Sequence[Step], *, dtype: str, where: str
) -> Shaped[np.ndarray, "..."]:
    """Preprocess samples.

    Arithmetic is done in float32 (float64 where `dtype` is), the type that exporters' own pipelines
    use; the result is cast to `dtype`.

    Args:
        array: Raw samples, first axis samples.
        steps: What to do, in order.
        dtype: NumPy name of the element type that the graph input wants.
        where: File and input, for messages.

    Raises:
        UsageError: A step does not fit the array.
    """
    if array.ndim == 0:
        raise UsageError(
            f"an array must have samples along its first axis, got a single number ({where}); save"
            " the samples as one array"
        )
    if array.dtype.kind not in "biuf":
        raise UsageError(
            f"an input must hold numbers, got type {array.dtype} ({where}); only labels may be text"
        )
    work = np.float64 if dtype == "float64" else np.float32
    for position, step in enumerate(steps):
        place = f"{where}, step {position + 1} '{step.op}'"
        if step.op == "transpose":
            array = _transpose(array, step.perm or [], place)
        elif step.op == "reshape":
            array = _reshape(array, step.shape or [], place)
        elif step.op in ("resize", "crop", "grey", "colour"):
            raise UsageError(
                f"step '{step.op}' works on image folders, got an array ({place}); resize before"
                " saving the array"
            )
        else:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
                array = _arithmetic(array.astype(work, copy=False), step, work, place)
    if not np.isfinite(
        array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize < 4 else array
    ).all():
        raise UsageError(f"samples must be finite, got NaN or infinity ({where}); clean the data")
    return cast(array, dtype, where)


def _arithmetic(
    array: Shaped[np.ndarray, "..."], step: Step, work: type, where: str
) -> Shaped[np.ndarray, "..."]:
    value: Shaped[np.ndarray, "..."] = np.asarray(step.value, dtype=work)
    if value.ndim == 1 and (array.ndim < 2 or array.shape[-1] != value.size):
        raise UsageError(
            f"numbers must be one, or one for each of the last axis's channels, got {value.size}"
            f" for shape {list(array.shape)} ({where}); put the step before the transpose"
        )
    if step.op == "subtract":
        return np.asarray(array - value)
    return np.asarray(array * value if step.op == "multiply" else array / value)


def _transpose(
    array: Shaped[np.ndarray, "..."], perm: Sequence[int], where: str
) -> Shaped[np.ndarray, "..."]:
    if sorted(perm) != list(range(array.ndim)) or perm[0] != 0:
        raise UsageError(
            f"perm must reorder the {array.ndim} axes of shape {list(array.shape)} and leave the"
            f" sample axis 0 first, got {list(perm)} ({where})"
        )
    return array.transpose(perm)


def _reshape(
    array: Shaped[np.ndarray, "..."], shape: Sequence[int], where: str
) -> Shaped[np.ndarray, "..."]:
    per_sample = math.prod(array.shape[1:])
    known = math.prod(length for length in shape if length != -1)
    fits = (
        per_sample == known
        if -1 not in shape
        else list(shape).count(-1) == 1 and known > 0 and per_sample % known == 0
    )
    if not fits or any(length < -1 for length in shape):
        raise UsageError(
            f"shape must hold the {per_sample} numbers of a sample, got {list(shape)} ({where});"
            " the sample axis is not counted in it"
        )
    return array.reshape(array.shape[0], *shape)
