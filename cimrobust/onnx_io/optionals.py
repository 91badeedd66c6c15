"""Optional values that are there: what they hold is read in their place."""

from __future__ import annotations

import numpy as np
import onnx

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import all_graphs, all_nodes, op_name


def open_optionals(graph: onnx.GraphProto) -> int:
    """Replace Optional, OptionalGetElement and OptionalHasElement, in place, bodies included.

    Only of values that a node of the graph or of a body makes: whether a graph input or the state
    of a loop holds something is not known. An Optional that holds nothing stays.

    Returns:
        How many nodes were replaced.
    """
    makers = {name: node for node in all_nodes(graph) for name in node.output if name}
    held = {
        name
        for name, node in makers.items()
        if not _may_hold_nothing(node) and (op_name(node) != "Optional" or any(node.input))
    }
    held |= {tensor.name for tensor in graph.initializer}
    num_replaced = 0
    for inner in all_graphs(graph):
        made = [_replaced(node, held, graph) for node in inner.node]
        changed = sum(new is not None for new in made)
        if changed:
            pairs = zip(list(inner.node), made, strict=True)
            replace_nodes(inner, [node if new is None else new for node, new in pairs])
        num_replaced += changed
    return num_replaced


def _may_hold_nothing(node: onnx.NodeProto) -> bool:
    """Tell whether what a node makes may be an optional value without anything in it."""
    return op_name(node) in ("If", "Loop", "Scan", "Identity", "SequenceMap")


def _replaced(
    node: onnx.NodeProto, held: set[str], graph: onnx.GraphProto
) -> onnx.NodeProto | None:
    """Return the node that takes the place of one, None where it stays."""
    if node.domain not in ("", "ai.onnx") or not node.input or node.input[0] not in held:
        return None
    if node.op_type in ("Optional", "OptionalGetElement"):
        return onnx.helper.make_node("Identity", node.input[:1], node.output, name=node.name)
    if node.op_type != "OptionalHasElement":
        return None
    known = f"{node.output[0]}.known"
    graph.initializer.append(encode(np.asarray(True), known))
    return onnx.helper.make_node("Identity", [known], node.output, name=node.name)
