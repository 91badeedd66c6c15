"""Work that the shapes of a file do not bound.

Bodies that run many times, and tensors whose size a number decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.shapes import TensorType, infer_types
from cimrobust.onnx_io.size_limits import MAX_ITERATIONS
from cimrobust.onnx_io.walk import all_nodes, describe

if TYPE_CHECKING:
    from cimrobust.onnx_io.fold import Constants

#: Operators that run a body as often as a number says that may come from anywhere.
REPEATING_OPS = frozenset({"Loop", "Scan", "SequenceMap"})


#: Operators whose output is as large as numbers say that they get.
_SIZED_OPS = frozenset(
    {
        "CenterCropPad",
        "ConstantOfShape",
        "Expand",
        "OneHot",
        "Pad",
        "Range",
        "Resize",
        "Tile",
        "Upsample",
    }
    | {
        "AffineGrid",
        "BlackmanWindow",
        "HammingWindow",
        "HannWindow",
        "MelWeightMatrix",
        "RandomNormal",
        "RandomUniform",
    }
)

#: Most elements of a tensor that needs no care.
_MANY = 2**24


def open_ended_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the nodes whose work no shape of the file bounds, as messages call them.

    Loops, and makers of tensors of unknown or large size.
    """
    sized = [
        node
        for node in all_nodes(model.graph)
        if node.op_type in _SIZED_OPS and node.domain in ("", "ai.onnx", "com.microsoft")
    ]
    found = repeating_nodes(model.graph)
    if not sized:
        return found
    types = infer_types(model, strict=False, ignore_output_shapes=True)
    named = {
        dim.dim_param
        for value in model.graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }
    return found + [
        describe(node)
        for node in sized
        if not all(_is_small(types.get(name), named) for name in node.output if name)
    ]


def _is_small(kind: TensorType | None, named: set[str]) -> bool:
    """Return whether a tensor has few elements, sizes of axes of the inputs not counted."""
    if (
        kind is None
        or kind.shape is None
        or not all(isinstance(dim, int) or dim in named for dim in kind.shape)
    ):
        return False
    return math.prod(dim for dim in kind.shape if isinstance(dim, int)) <= _MANY


def repeating_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the nodes that repeat a body, as messages call them."""
    return [
        describe(node)
        for node in all_nodes(graph)
        if node.op_type in REPEATING_OPS and node.domain in ("", "ai.onnx")
    ]


def iteration_problems(graph: onnx.GraphProto, constants: Constants) -> list[str]:
    """Return the loops that run their body more often than is covered, whatever the input.

    Loops that may end by a condition are not among them.
    """
    return [
        f"{describe(node)} runs its body {'without end' if count is None else f'{count} times'},"
        f" more than {MAX_ITERATIONS}"
        for node, count in _counts(graph, constants, 1)
        if count is None or count > MAX_ITERATIONS
    ]


def _counts(
    graph: onnx.GraphProto, constants: Constants, outer: int
) -> Iterator[tuple[onnx.NodeProto, int | None]]:
    """Yield loops and how often they run their body at least, those around them counted.

    None: without end.
    """
    for node in graph.node:
        bodies: Mapping[str, onnx.GraphProto] = {
            item.name: item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH
        }
        count: int | None = 1
        if node.op_type == "Loop" and not node.domain and "body" in bodies:
            count = _least_count(node, bodies["body"], constants)
            yield node, None if count is None else outer * count
        for body in bodies.values():
            if count:  # nothing inside an endless loop makes it worse
                yield from _counts(body, constants, outer * count)


def _least_count(node: onnx.NodeProto, body: onnx.GraphProto, constants: Constants) -> int | None:
    """Return how often a loop runs its body at least; None: without end."""
    limit, condition = (node.input[index] if index < len(node.input) else "" for index in (0, 1))
    given = constants.value(limit) if limit else None
    if limit and (given is None or given.size != 1):
        return 0
    started = _truth(condition, constants) if condition else True
    if not started or not _goes_on(body, constants):
        return 0
    return None if given is None else max(0, int(given.reshape(())))


def _goes_on(body: onnx.GraphProto, constants: Constants) -> bool:
    """Return whether the condition that a body makes is the one that it gets, or always true."""
    makers = {name: node for node in body.node for name in node.output}
    name = body.output[0].name if body.output else ""
    while name in makers and makers[name].op_type == "Identity" and not makers[name].domain:
        name = makers[name].input[0]
    return (len(body.input) > 1 and name == body.input[1].name) or bool(_truth(name, constants))


def _truth(name: str, constants: Constants) -> bool | None:
    value = constants.value(name)
    return None if value is None or value.size != 1 else bool(value.reshape(()))
