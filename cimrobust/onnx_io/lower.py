"""Lower layers written as Einsum to the plain operators they stand for.

A crossbar kernel then needs to know plain operators alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.crossbar_nodes import stored_uses
from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.layouts import einsum_terms
from cimrobust.onnx_io.shapes import TensorType, infer_types, rank_of
from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import NameMaker, all_graphs, all_nodes, defined_names, op_name
from cimrobust.onnx_io.weights import WeightUse, weights_of

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.onnx_io.deployed import Deployed

_Values = Mapping[str, float | list[int]]


class _CannotLowerError(Exception):
    """A node cannot be lowered and stays as it is."""


@dataclass
class _Lowering:
    """What replaces one node.

    Attributes:
        use: The node and its stored weight.
        types: Types of all tensors, as far as inference gets.
        makers: Node that makes a tensor.
        names: Maker of tensor names.
        nodes: Nodes made so far.
        initializers: Initializers made so far.
    """

    use: WeightUse
    types: Mapping[str, TensorType]
    makers: Mapping[str, onnx.NodeProto]
    names: NameMaker
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    @property
    def node(self) -> onnx.NodeProto:
        return self.use.node

    def input(self, index: int) -> str:
        """Return the name of an input, ``""`` if it is left out."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def rank(self, name: str) -> int:
        """Return the number of axes of a tensor, also where inference gave up on its shape."""
        rank = rank_of(name, self.types, self.makers)
        if rank is None:
            raise _CannotLowerError
        return rank

    def add(self, op: str, inputs: Sequence[str], wish: str, values: _Values | None = None) -> str:
        """Add a node; return the name of its output.

        Args:
            op: Operator.
            inputs: What it reads; inputs left out at the end are cut off.
            wish: What its name ends on.
            values: Its attributes.
        """
        names = list(inputs)
        while not names[-1]:
            names.pop()
        output = self.names.take(f"{self.node.output[0]}.{wish}")
        node = onnx.helper.make_node(op, names, [output], name=f"{self.node.name}.{wish}")
        node.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in (values or {}).items()
        )
        self.nodes.append(node)
        return output

    def constant(self, values: Shaped[np.ndarray, "..."], wish: str) -> str:
        """Add an initializer; return its name."""
        name = self.names.take(f"{self.node.output[0]}.{wish}")
        self.initializers.append(encode(values, name))
        return name

    def transpose(self, name: str, order: Sequence[int], wish: str) -> str:
        """Reorder axes, if they are in another order."""
        return (
            name
            if list(order) == sorted(order)
            else self.add("Transpose", [name], wish, {"perm": list(order)})
        )

    def reshape(self, name: str, shape: Sequence[int], wish: str) -> str:
        """Reshape; 0 keeps an axis."""
        return self.add(
            "Reshape", [name, self.constant(np.asarray(shape, np.int64), f"{wish}.shape")], wish
        )

    def finish(self) -> None:
        """Give the last output the name of the node's."""
        self.nodes[-1].output[0] = self.node.output[0]


def lower(deployed: Deployed) -> Deployed:
    """Return the network with layers written as Einsum, of the graph itself, as plain operators.

    Only layers with stored weights are touched, and only where plain operators compute the same up
    to the order of sums.
    """
    weights = weights_of(deployed.model)
    types = infer_types(deployed.model, strict=False)
    graph = deployed.model.graph
    names = NameMaker(name for inner in all_graphs(graph) for name in defined_names(inner))
    makers = {name: node for node in all_nodes(graph) for name in node.output if name}
    jobs: dict[str, _Lowering] = {}
    for name, uses in stored_uses(deployed, weights).items():
        job = _Lowering(uses[0], types, makers, names)
        maker = _LOWERINGS.get(op_name(job.node))
        if maker is None:
            continue
        try:
            maker(job)
        except _CannotLowerError:
            continue
        job.finish()
        jobs[name] = job
    if not any(node.name in jobs for node in graph.node):
        return deployed
    model = onnx.ModelProto()
    model.CopyFrom(deployed.model)
    top_level = [jobs[node.name] for node in graph.node if node.name in jobs]
    replace_nodes(
        model.graph,
        [
            new
            for node in graph.node
            for new in (jobs[node.name].nodes if node.name in jobs else [node])
        ],
    )
    model.graph.initializer.extend(tensor for job in top_level for tensor in job.initializers)
    return replace(deployed, model=model)


def _einsum(job: _Lowering) -> None:
    """Lower a product of a weight and activations.

    The activations move to [batch ..., free ..., rows], the weight to [batch ..., 1 ..., rows,
    columns].
    """
    index = job.use.slot.index
    own, other, out = einsum_terms(job.node, index)
    data = job.input(1 - index)
    other, out = _spell_out(other, out, job.rank(data))
    sizes = dict(zip(own, job.use.shape, strict=True))
    batch = [letter for letter in other if letter in own and letter in out]
    rows = [letter for letter in other if letter in own and letter not in out]
    free = [letter for letter in other if letter not in own]
    columns = [letter for letter in own if letter not in other]
    if (
        len(set(other)) < len(other)
        or not set(free) <= set(out)
        or not _fits(job.types.get(data), other, sizes)
        or math.prod(sizes.values()) == 0
    ):
        raise _CannotLowerError
    num_kept = len(batch) + len(free)
    moved = job.transpose(data, [other.index(letter) for letter in (*batch, *free, *rows)], "data")
    if len(rows) != 1 or not free:
        shape = (
            [0] * num_kept + ([] if free else [1]) + [math.prod(sizes[letter] for letter in rows)]
        )
        moved = job.reshape(moved, shape, "data_matrix")
    weight = job.transpose(
        job.input(index), [own.index(letter) for letter in (*batch, *rows, *columns)], "weight"
    )
    stack = [sizes[letter] for letter in batch] + [1] * (max(len(free), 1) - 1 if batch else 0)
    matrix = [math.prod(sizes[letter] for letter in letters) for letters in (rows, columns)]
    if [*stack, *matrix] != [sizes[letter] for letter in (*batch, *rows, *columns)]:
        weight = job.reshape(weight, [*stack, *matrix], "weight_matrix")
    result = job.add("MatMul", [moved, weight], "product")
    if len(columns) != 1 or not free:
        result = job.reshape(result, [0] * num_kept + [sizes[letter] for letter in columns], "axes")
    made = [*batch, *free, *columns]
    job.transpose(result, [made.index(letter) for letter in out], "ordered")


def _spell_out(other: str, out: str, rank: int) -> tuple[str, str]:
    """Replace the ellipsis of the activations by letters of its own."""
    if "..." not in other:
        if "..." in out or len(other) != rank:
            raise _CannotLowerError
        return other, out
    if "..." not in out:
        raise _CannotLowerError
    letters = "".join(
        chr(0x3B1 + position) for position in range(rank - len(other) + 3)
    )  # Greek: equations are ASCII
    return other.replace("...", letters), out.replace("...", letters)


def _fits(kind: TensorType | None, letters: str, sizes: Mapping[str, int]) -> bool:
    """Return whether activations may have the sizes that the weight has.

    An axis of size 1 against a larger one would be repeated.
    """
    dims = (
        zip(letters, kind.shape, strict=True) if kind is not None and kind.shape is not None else ()
    )
    return all(not isinstance(dim, int) or sizes.get(letter, dim) == dim for letter, dim in dims)


_LOWERINGS: Mapping[str, Callable[[_Lowering], None]] = {
    "Einsum": _einsum,
}
