"""The nodes of a deployed model that a crossbar kernel can compute.

Also where the elements of their weights are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.layers import UnmappedNode
from cimrobust.onnx_io.layouts import uses_all_slots
from cimrobust.onnx_io.shapes import TensorType, infer_types
from cimrobust.onnx_io.views import TYPE_OPS
from cimrobust.onnx_io.walk import attributes, op_name
from cimrobust.onnx_io.weights import Weights, WeightUse, weights_of

if TYPE_CHECKING:
    from cimrobust.array_shapes import Int64
    from cimrobust.onnx_io.deployed import Deployed

#: Operators that a crossbar kernel computes.
CROSSBAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})


@dataclass(frozen=True)
class StoredOperand:
    """The stored weight at one input of a node.

    Attributes:
        slot: Position among the node's inputs.
        role: Its name in the operator's schema.
        leaves: Stored initializers that its elements come from.
        index: Position of every element, int64, in the leaves flattened and laid one after the
            other; the weight's shape at the node.
    """

    slot: int
    role: str
    leaves: tuple[str, ...]
    index: Int64[np.ndarray, "..."]


@dataclass(frozen=True)
class CrossbarNode:
    """A node that a crossbar kernel can compute.

    Attributes:
        name: Name of the node.
        op: Operator, one of CROSSBAR_OPS.
        opset: Version of the standard operator set.
        attributes: The node's attributes as Python values; defaults are not filled in.
        inputs: Tensors it reads, ``""`` where one is left out; the stored weights among them are in
            `operands`.
        outputs: Tensors it makes, ``""`` where one is left out.
        operands: Its stored weights.
    """

    name: str
    op: str
    opset: int
    attributes: Mapping[str, object]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operands: tuple[StoredOperand, ...]

    @property
    def data_inputs(self) -> tuple[str, ...]:
        """Tensors it reads apart from its stored weights, inputs that are left out not counted."""
        stored = {operand.slot for operand in self.operands}
        return tuple(name for slot, name in enumerate(self.inputs) if name and slot not in stored)


def crossbar_nodes(deployed: Deployed) -> tuple[tuple[CrossbarNode, ...], tuple[UnmappedNode, ...]]:
    """Return the nodes that a crossbar kernel can compute, and those that it cannot.

    The latter have stored weights; each comes with the reason.

    Args:
        deployed: The network; `graph.lower.lower` leaves fewer nodes that stay digital.

    Returns:
        Both in graph order.
    """
    weights = weights_of(deployed.model)
    types = infer_types(deployed.model, strict=False)
    top_level = {node.name for node in deployed.model.graph.node}
    found: list[CrossbarNode] = []
    digital: list[UnmappedNode] = []
    for uses in stored_uses(deployed, weights).values():
        node = uses[0].node
        reason = (
            _op_problem(node)
            or _weight_problem(uses, types)
            or (None if node.name in top_level else "digital: inside a body")
        )
        if reason is None:
            found.append(_crossbar_node(uses, weights))
        else:
            digital.append(UnmappedNode(node.name, op_name(node), reason))
    return tuple(found), tuple(digital)


def stored_uses(deployed: Deployed, weights: Weights) -> dict[str, list[WeightUse]]:
    """Return what every node multiplies by that is stored, by node name, in graph order."""
    stored = set(deployed.weight_names)
    by_node: dict[str, list[WeightUse]] = {}
    for use in weights.uses():
        if stored.issuperset(use.trace.leaves):
            by_node.setdefault(use.node.name, []).append(use)
    return by_node


def _op_problem(node: onnx.NodeProto) -> str | None:
    return None if op_name(node) in CROSSBAR_OPS else f"digital: the kernel has no {op_name(node)}"


def _weight_problem(uses: list[WeightUse], types: Mapping[str, TensorType]) -> str | None:
    """Return why weights of a known operator cannot be handed to the kernel."""
    if uses_all_slots(uses[0].node) and len(uses) < 2:
        return (
            f"digital: of the weights W and R of a recurrent layer only {uses[0].slot.role} is"
            " stored"
        )
    for use in uses:
        for node in use.trace.nodes:
            kind = types.get(node.output[0])
            if node.op_type in TYPE_OPS and (kind is None or kind.elem_type != TensorProto.FLOAT):
                return (
                    f"digital: {op_name(node)} '{node.name}' turns its weight into another type"
                    " than float32"
                )
    return None


def _crossbar_node(uses: list[WeightUse], weights: Weights) -> CrossbarNode:
    node = uses[0].node
    return CrossbarNode(
        name=node.name,
        op=node.op_type,
        opset=weights.opsets.get("", 1),
        attributes=attributes(node),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        operands=tuple(
            StoredOperand(use.slot.index, use.slot.role, use.trace.leaves, use.trace.index)
            for use in uses
        ),
    )
