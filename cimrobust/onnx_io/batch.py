"""The batch axis: where it is, and what of a network makes its samples depend on each other."""

from __future__ import annotations

import onnx

from cimrobust.onnx_io.shapes import read_type
from cimrobust.onnx_io.walk import all_nodes

#: Operators that choose one quantisation range for all samples of a batch, so that a sample's
#: result depends on the others.
_BATCH_COUPLING = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"}
)


def find_batch(model: onnx.ModelProto, *, has_batch: bool = True) -> tuple[str, int | None]:
    """Return how the first axis of the inputs counts samples.

    ``dynamic``, ``fixed`` with its size, or ``none``.
    """
    shapes = [kind.shape for value in model.graph.input if (kind := read_type(value)) is not None]
    if not has_batch:
        return "none", None
    if any(shape is None for shape in shapes):
        return "dynamic", None
    leading = [shape[0] for shape in shapes if shape]
    if not leading:
        return "none", None
    first = leading[0]
    return ("fixed", first) if isinstance(first, int) else ("dynamic", None)


def coupling_operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators that choose one quantisation range for a whole batch, sorted."""
    return sorted(
        {node.op_type for node in all_nodes(model.graph) if node.op_type in _BATCH_COUPLING}
    )


def batch_notes(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return what readers of results must know of how samples of one batch affect each other."""
    coupling = coupling_operators(model)
    if not coupling:
        return ()
    return (
        (
            f"{', '.join(coupling)} chooses one quantisation range for a whole batch, so results"
            " depend on which samples share one"
        ),
    )
