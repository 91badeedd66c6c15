"""Resolving `If` nodes whose condition does not depend on the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from cimrobust.graph.fold import Constants, replace_nodes
from cimrobust.graph.shapes import TensorType, infer_types
from cimrobust.graph.tensors import encode

#: Sizes that stand for an axis of unknown size; a condition that is the same for all of them does not depend on it.
_TRIAL_SIZES = (1, 2, 3, 7919)

_MAX_ROUNDS = 64


def inline_constant_branches(model: onnx.ModelProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]) -> int:
    """Replace `If` nodes of the main graph with a constant condition by the branch taken, in place.

    A condition counts as constant if it is computed from constants and from shapes of tensors; axes of unknown size must not matter.

    Returns:
        Number of nodes replaced.
    """
    num_inlined = 0
    for _ in range(_MAX_ROUNDS):
        taken = {node.output[0]: branch for node in model.graph.node if (branch := _branch_taken(node, model, opsets, types)) is not None}
        if not taken:
            break
        nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            nodes += _spliced(node, taken[node.output[0]]) if node.output[0] in taken else [node]
        replace_nodes(model.graph, nodes)
        num_inlined += len(taken)
        types = infer_types(model, strict=False)
    return num_inlined


def _branch_taken(
    node: onnx.NodeProto, model: onnx.ModelProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]
) -> onnx.GraphProto | None:
    if node.op_type != "If" or node.domain:
        return None
    decisions = {_condition(node.input[0], model.graph, opsets, types, size) for size in _TRIAL_SIZES}
    if len(decisions) != 1 or None in decisions:
        return None
    wanted = "then_branch" if decisions.pop() else "else_branch"
    bodies: dict[str, onnx.GraphProto] = {attribute.name: attribute.g for attribute in node.attribute}
    return bodies.get(wanted)


def _condition(name: str, graph: onnx.GraphProto, opsets: Mapping[str, int], types: Mapping[str, TensorType], size: int) -> bool | None:
    """Return the value of a condition if every axis of unknown size had `size` entries, None if it depends on more than shapes."""
    assumed = onnx.GraphProto()
    assumed.initializer.extend(graph.initializer)
    for node in graph.node:
        kind = types.get(node.input[0]) if node.op_type == "Shape" and not node.domain and not node.attribute else None
        if kind is None or kind.shape is None:
            assumed.node.append(node)
        else:
            shape = np.asarray([dim if isinstance(dim, int) else size for dim in kind.shape], np.int64)
            assumed.initializer.append(encode(shape, node.output[0]))
    value = Constants(assumed, opsets, types).value(name)
    return None if value is None or value.size != 1 else bool(value.reshape(()))


def _spliced(node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of a branch, its outputs named as the outputs of the `If` node."""
    nodes: list[onnx.NodeProto] = []
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        nodes.append(copy)
    for wanted, value in zip(node.output, branch.output, strict=False):
        if wanted:
            nodes.append(onnx.helper.make_node("Identity", [value.name], [wanted], name=f"{node.name}.{wanted}"))
    return nodes
