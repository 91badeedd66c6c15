"""A deployed network for the sizes of the data at hand.

What decides branches for them need not decide them for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.branches import resolve_branches
from cimrobust.onnx_io.walk import opset_versions

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed

#: Shape of an input, None where an axis may have another size from run to run.
Shape = Sequence[int | None]


def at_hand(deployed: Deployed, shapes: Mapping[str, Shape]) -> Deployed:
    """Return a network that computes the same on inputs of some shapes.

    The branches that such inputs do not take are left out. Search, bounds and crossbars with
    converters work on it, since none of them looks into branches; no file is ever written from it.

    Args:
        deployed: The network.
        shapes: Shapes by graph input.

    Returns:
        The network itself where it has no `If` node that the shapes decide. Initializers of
        branches not taken stay.
    """
    if not any(node.op_type == "If" for node in deployed.model.graph.node):
        return deployed
    model = onnx.ModelProto()
    model.CopyFrom(deployed.model)
    for value in model.graph.input:
        dims, shape = value.type.tensor_type.shape.dim, shapes.get(value.name, ())
        for dim, length in zip(dims, shape, strict=False):
            if length is not None and not dim.HasField("dim_value"):
                dim.dim_value = length
    resolved = resolve_branches(model, opset_versions(model), share=False)
    return replace(deployed, model=model) if resolved.num_resolved else deployed


def agreeing(first: Mapping[str, Shape], second: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return what two sets of shapes have in common.

    None for axes in which they differ, nothing for inputs whose ranks do.
    """
    return {
        name: [a if a == b else None for a, b in zip(shape, second[name], strict=True)]
        for name, shape in first.items()
        if name in second and len(second[name]) == len(shape)
    }
