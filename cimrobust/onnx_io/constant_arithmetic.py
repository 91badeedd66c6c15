"""Tensors that constants alone decide by arithmetic: which there are, and a model that holds them.

An engine computes them in the precision of the model, so that a table of sines of large numbers is
another one than that of exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeAlias

import onnx

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.normalise import drop_dead_parts
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import read_names

if TYPE_CHECKING:
    import numpy as np

    from cimrobust.array_shapes import Shaped

#: A network and one node of it, for packages that do not know the format.
Model: TypeAlias = onnx.ModelProto
ModelNode: TypeAlias = onnx.NodeProto

_FLOATS = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)
#: Operators that read shapes alone.
_OF_SHAPES = frozenset({"Shape", "Size"})


def tensors_of_constants(
    model: onnx.ModelProto,
    *,
    output: str,
    varying: Collection[str],
    exact: AbstractSet[str],
) -> dict[str, onnx.NodeProto]:
    """Return the nodes in front of an output that compute floats of constants, by what they make.

    Args:
        model: Sorted, without functions.
        output: The output.
        varying: Initializers and graph inputs that are no constants.
        exact: Operators that round nothing, as they move elements.
    """
    graph, types = model.graph, infer_types(model, strict=False)
    fixed = {tensor.name for tensor in graph.initializer} - set(varying)
    fixed |= {value.name for value in graph.input} - set(varying)
    wanted = {output}
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted |= read_names(node)
    found = {}
    for node in graph.node:
        if node.op_type not in _OF_SHAPES and not read_names(node) <= fixed:
            continue
        fixed.update(node.output)
        for name in node.output:
            is_float = name not in types or types[name].elem_type in _FLOATS
            if name in wanted and is_float and node.op_type not in exact | _OF_SHAPES:
                found[name] = node
    return found


def with_outputs_alone(model: onnx.ModelProto, names: Collection[str]) -> bytes:
    """Return a model that makes these tensors and nothing else, serialised."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    held = {tensor.name for tensor in copy.graph.initializer}
    given = {value.name for value in copy.graph.input}
    copy.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in held | given
    )
    drop_dead_parts(copy.graph)
    return bytes(copy.SerializeToString())


def with_values(
    model: onnx.ModelProto,
    values: Mapping[str, Shaped[np.ndarray, "..."]],
    rows: Mapping[str, Shaped[np.ndarray, "1 ..."]],
) -> onnx.ModelProto:
    """Return a copy of a model in which tensors are initializers, in place of nodes' outputs.

    Args:
        model: Sorted, of operator set 8 or newer where there are rows.
        values: Tensors by name.
        rows: Tensors that are one row, repeated as often as the node's output is long.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in values and name not in rows:
                continue
            node.output[index] = f"{name}, as computed"
            if name in rows:
                size, row = f"{name}, size", f"{name}, row"
                nodes += [
                    onnx.helper.make_node("Shape", [node.output[index]], [size], name=size),
                    onnx.helper.make_node("Expand", [row, size], [name], name=name),
                ]
    replace_nodes(copy.graph, nodes)
    copy.graph.initializer.extend(encode(array, name) for name, array in values.items())
    copy.graph.initializer.extend(encode(row, f"{name}, row") for name, row in rows.items())
    drop_dead_parts(copy.graph, keep={tensor.name for tensor in model.graph.initializer})
    return copy
