"""Resolving `If` nodes whose condition is the same for all sizes that the inputs may have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from cimrobust.onnx_io.fold import Constants, replace_nodes
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.sizes import SizeValues
from cimrobust.onnx_io.symbolic import Work

_MAX_ROUNDS = 64

#: Most steps of arithmetic on sizes for one model, a second or two; conditions that would take more
#: stay.
_MAX_STEPS = 500_000


@dataclass(frozen=True)
class Branches:
    """What became of the `If` nodes of a model.

    Attributes:
        num_resolved: Nodes replaced by the branch that is taken whatever the sizes.
        shared_sizes: Names that several axes of the inputs have, and that have to be one size each
            for that; empty where nothing depends on it.
    """

    num_resolved: int
    shared_sizes: tuple[str, ...]


def resolve_branches(
    model: onnx.ModelProto, opsets: Mapping[str, int], *, share: bool = True
) -> Branches:
    """Replace `If` nodes of the main graph by the branch taken, in place.

    This is done where the branch is the same for all inputs that the model may get.

    Every axis of an input that the file gives no number may have any size, the empty one included;
    two axes of the same name have the same. onnxruntime does not ask for the latter, so it is used
    only where a condition cannot do without, and reported; with `share` off, never. All other
    conditions stay as they are.
    """
    work, shared, count = Work(_MAX_STEPS), shared_names(model.graph) if share else (), 0
    used = False
    for _ in range(_MAX_ROUNDS):
        taken = _branches_taken(model, opsets, work, apart=True)
        if not taken and shared:
            taken = _branches_taken(model, opsets, work, apart=False)
            used = used or bool(taken)
        if not taken:
            break
        nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            nodes += _spliced(node, taken[node.name]) if node.name in taken else [node]
        replace_nodes(model.graph, nodes)
        count += len(taken)
    return Branches(count, shared if used else ())


def shared_names(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return the names that more than one axis of the inputs has."""
    names = Counter(
        dim.dim_param
        for value in graph.input
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    )
    return tuple(sorted(name for name, count in names.items() if count > 1))


def _branches_taken(
    model: onnx.ModelProto, opsets: Mapping[str, int], work: Work, *, apart: bool
) -> dict[str, onnx.GraphProto]:
    """Return by node the branch that is taken whatever the sizes."""
    conditional = [node for node in model.graph.node if node.op_type == "If" and not node.domain]
    if not conditional:
        return {}
    types = infer_types(model, strict=False, ignore_output_shapes=True, sizes_apart=apart)
    values = SizeValues(model.graph, Constants(model.graph, opsets, types), opsets, types, work)
    taken: dict[str, onnx.GraphProto] = {}
    for node in conditional:
        decided = values.number(node.input[0])
        bodies = {attribute.name: attribute.g for attribute in node.attribute}
        wanted = "then_branch" if decided else "else_branch"
        if decided is not None and wanted in bodies:
            taken[node.name] = bodies[wanted]
    return taken


def _spliced(node: onnx.NodeProto, branch: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of a branch, its outputs named as the outputs of the `If` node."""
    nodes: list[onnx.NodeProto] = []
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        nodes.append(copy)
    for wanted, value in zip(node.output, branch.output, strict=False):
        if wanted:
            nodes.append(
                onnx.helper.make_node(
                    "Identity", [value.name], [wanted], name=f"{node.name}.{wanted}"
                )
            )
    return nodes
