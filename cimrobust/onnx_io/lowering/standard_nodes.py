"""What several lowerings are built from.

Standard nodes in the form that the model's operator set has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from onnx import helper

from cimrobust.onnx_io.lowering.job import Job, needed
from cimrobust.onnx_io.lowering.lowering_errors import StaysError

END = sys.maxsize


def require_opset(job: Job, least: int) -> None:
    """Raise StaysError where the model's standard operator set is too old for a lowering."""
    if job.opset < least:
        raise StaysError(
            f"the model is of operator set {job.opset}, the nodes that take its place need {least}"
            " or newer"
        )


def number(job: Job, value: float, elem_type: int, *shape: int) -> str:
    """Add an initializer of one number, in an ONNX element type; without shape it is a scalar."""
    return job.constant(np.full(shape, value, helper.tensor_dtype_to_np_dtype(elem_type)), "number")


def lowest(elem_type: int) -> float:
    """Return the lowest finite number of a floating-point element type."""
    return float(np.finfo(helper.tensor_dtype_to_np_dtype(elem_type)).min)


def part(job: Job, name: str, axis: int, start: int | str, end: int | str, step: int = 1) -> str:
    """Slice one axis; borders may be names of vectors of one element."""
    borders = [job.axes(border) if isinstance(border, int) else border for border in (start, end)]
    return job.add(
        "Slice", name, *borders, job.axes(axis), *([job.axes(step)] if step != 1 else [])
    )


def unsqueeze(job: Job, name: str, *axes: int) -> str:
    """Insert axes of size 1."""
    return (
        job.add("Unsqueeze", name, job.axes(*axes))
        if job.opset >= 13
        else job.add("Unsqueeze", name, axes=list(axes))
    )


def squeeze(job: Job, name: str, *axes: int) -> str:
    """Remove axes of size 1."""
    return (
        job.add("Squeeze", name, job.axes(*axes))
        if job.opset >= 13
        else job.add("Squeeze", name, axes=list(axes))
    )


def mean(job: Job, name: str, axes: Sequence[int]) -> str:
    """Average over axes, which stay with size 1."""
    if job.opset >= 18:
        return job.add("ReduceMean", name, job.axes(*axes), keepdims=1)
    return job.add("ReduceMean", name, axes=list(axes), keepdims=1)


def reshape(job: Job, name: str, *shape: int | str) -> str:
    """Reshape; 0 keeps an axis, names are vectors of one element."""
    if all(isinstance(size, int) for size in shape):
        return job.add(
            "Reshape", name, job.axes(*[size for size in shape if isinstance(size, int)])
        )
    sizes = [job.axes(size) if isinstance(size, int) else size for size in shape]
    return job.add("Reshape", name, job.add("Concat", *sizes, axis=0))


def size_of(job: Job, name: str, axis: int) -> str:
    """Return the size of an axis as a vector of one int64."""
    return job.add("Gather", job.add("Shape", name), job.axes(axis), axis=0)


def steps(job: Job, start: str, end: str) -> str:
    """Return the integers from `start` to before `end`, vectors of one int64."""
    return job.add(
        "Range",
        squeeze(job, start, 0),
        squeeze(job, end, 0),
        job.constant(np.asarray(1, np.int64), "one"),
    )


def at_most(job: Job, first: str, second: str) -> str:
    """Return where `first` is at most `second`."""
    return job.add("Not", job.add("Greater", first, second))


def total(job: Job, *names: str) -> str:
    """Add tensors one after the other; those left out (``""``) are none."""
    present = [name for name in names if name]
    result = needed(present[0] if present else "")
    for name in present[1:]:
        result = job.add("Add", result, name)
    return result
