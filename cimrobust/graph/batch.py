"""The batch axis: finding it, and making one of fixed size symbolic."""

from __future__ import annotations

import onnx

from cimrobust.graph.shapes import read_type


def find_batch(model: onnx.ModelProto, *, has_batch: bool = True) -> tuple[str, int | None]:
    """Return how the first axis of the inputs counts samples: ``dynamic``, ``fixed`` with its size, or ``none``."""
    shapes = [kind.shape for value in model.graph.input if (kind := read_type(value)) is not None]
    if not has_batch:
        return "none", None
    if any(shape is None for shape in shapes):
        return "dynamic", None
    leading = [shape[0] for shape in shapes if shape]
    if not leading:
        return "none", None
    if not isinstance(leading[0], int):
        return "dynamic", None
    return "fixed", leading[0]


def widen_batch(model: onnx.ModelProto, batch_size: int | None) -> tuple[onnx.ModelProto, tuple[str, ...]] | None:
    """Return a copy of the model with a symbolic batch axis, and notes; None if it cannot be done."""
    return None
