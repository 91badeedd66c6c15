"""Fused layers as the plain operators they stand for, so that a crossbar kernel needs to know plain ones alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from cimrobust.graph.crossbar import stored_uses
from cimrobust.graph.deployed import Deployed
from cimrobust.graph.fold import replace_nodes
from cimrobust.graph.layouts import einsum_terms
from cimrobust.graph.shapes import TensorType, infer_types
from cimrobust.graph.tensors import encode
from cimrobust.graph.walk import NameMaker, all_graphs, all_nodes, attributes, defined_names, int_attribute, op_name
from cimrobust.graph.weights import WeightUse, weights_of

#: Activations of fused nodes and the attributes that their parameters are, in order.
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Softplus": (),
    "Tanh": (),
}

#: Operators whose output has the rank of their first input.
_SAME_RANK = frozenset(
    {"BatchNormalization", "Cast", "Clip", "Dropout", "Erf", "Gelu", "Identity", "LayerNormalization", "Relu", "Sigmoid", "Softmax", "Tanh"}
)

_Values = Mapping[str, float | list[int]]

_CONV_ATTRIBUTES = frozenset({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"})


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
        while True:
            kind, maker = self.types.get(name), self.makers.get(name)
            if kind is not None and kind.shape is not None:
                return len(kind.shape)
            if maker is None or maker.domain:
                raise _CannotLowerError
            order = attributes(maker).get("perm")
            if maker.op_type == "Transpose" and isinstance(order, list):
                return len(order)
            target = self.types.get(maker.input[1]) if maker.op_type == "Reshape" else None
            if target is not None and target.static_shape:
                return target.static_shape[0]
            if maker.op_type not in _SAME_RANK:
                raise _CannotLowerError
            name = maker.input[0]

    def add(self, op: str, inputs: Sequence[str], wish: str, values: _Values | None = None, keep: frozenset[str] = frozenset()) -> str:
        """Add a node; return the name of its output.

        Args:
            op: Operator.
            inputs: What it reads; inputs left out at the end are cut off.
            wish: What its name ends on.
            values: Its attributes.
            keep: Further attributes, to take over from the node that is replaced.
        """
        names = list(inputs)
        while not names[-1]:
            names.pop()
        output = self.names.take(f"{self.node.output[0]}.{wish}")
        node = onnx.helper.make_node(op, names, [output], name=f"{self.node.name}.{wish}")
        node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in (values or {}).items())
        node.attribute.extend(attribute for attribute in self.node.attribute if attribute.name in keep)
        self.nodes.append(node)
        return output

    def constant(self, values: np.ndarray, wish: str) -> str:
        """Add an initializer; return its name."""
        name = self.names.take(f"{self.node.output[0]}.{wish}")
        self.initializers.append(encode(values, name))
        return name

    def transpose(self, name: str, order: Sequence[int], wish: str) -> str:
        """Reorder axes, if they are in another order."""
        return name if list(order) == sorted(order) else self.add("Transpose", [name], wish, {"perm": list(order)})

    def reshape(self, name: str, shape: Sequence[int], wish: str) -> str:
        """Reshape; 0 keeps an axis."""
        return self.add("Reshape", [name, self.constant(np.asarray(shape, np.int64), f"{wish}.shape")], wish)

    def finish(self) -> None:
        """Give the last output the name of the node's."""
        self.nodes[-1].output[0] = self.node.output[0]


def lower(deployed: Deployed) -> Deployed:
    """Return the network with fused layers (FusedConv, FusedGemm, FusedMatMul, Einsum) of the graph itself as plain operators.

    Only layers with stored weights are touched, and only where plain operators compute the same up to the order of sums.
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
    replace_nodes(model.graph, [new for node in graph.node for new in (jobs[node.name].nodes if node.name in jobs else [node])])
    model.graph.initializer.extend(tensor for job in top_level for tensor in job.initializers)
    return replace(deployed, model=model)


def _activate(job: _Lowering, name: str, params: Sequence[float]) -> None:
    """Add the activation that a fused node ends with."""
    activation = str(attributes(job.node).get("activation", ""))
    if activation == "Clip":
        bounds = [job.constant(np.asarray(value, np.float32), wish) for value, wish in zip(params, ("low", "high"), strict=False)]
        low = job.add("Max", [name, bounds[0]], "clip_low") if bounds else name
        if len(bounds) > 1:
            job.add("Min", [low, bounds[1]], "clip")
        return
    if activation and activation not in _ACTIVATIONS:
        raise _CannotLowerError
    if activation:
        job.add(activation, [name], "activation", dict(zip(_ACTIVATIONS[activation], params, strict=False)))


def _fused_conv(job: _Lowering) -> None:
    result = job.add("Conv", [job.input(0), job.input(1), job.input(2)], "conv", keep=_CONV_ATTRIBUTES)
    if job.input(3):
        result = job.add("Add", [result, job.input(3)], "sum")
    params = attributes(job.node).get("activation_params", [])
    _activate(job, result, params if isinstance(params, list) else [])


def _fused_gemm(job: _Lowering) -> None:
    keep = frozenset({"alpha", "beta", "transA", "transB"})
    result = job.add("Gemm", [job.input(0), job.input(1), job.input(2)], "gemm", keep=keep)
    values = attributes(job.node)
    params = [values[name] for name in ("activation_alpha", "activation_beta") if name in values]
    _activate(job, result, [value for value in params if isinstance(value, float)])


def _fused_matmul(job: _Lowering) -> None:
    operands = [job.input(0), job.input(1)]
    for index, letter in enumerate("AB"):
        if int_attribute(job.node, f"transBatch{letter}", 0):
            raise _CannotLowerError
        if int_attribute(job.node, f"trans{letter}", 0):
            is_weight = index == job.use.slot.index
            rank = len(job.use.shape) if is_weight else job.rank(operands[index])
            if rank < 2:
                raise _CannotLowerError
            order = [*range(rank - 2), rank - 1, rank - 2]
            operands[index] = job.transpose(operands[index], order, f"transposed_{letter.lower()}")
    product = job.add("MatMul", operands, "product")
    alpha = attributes(job.node).get("alpha", 1.0)
    if alpha != 1.0:
        job.add("Mul", [product, job.constant(np.asarray(alpha, np.float32), "alpha")], "scaled")


def _einsum(job: _Lowering) -> None:
    """Lower a product of a weight and activations, by moving both to [batch ..., free ..., rows] and [batch ..., 1 ..., rows, columns]."""
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
        shape = [0] * num_kept + ([] if free else [1]) + [math.prod(sizes[letter] for letter in rows)]
        moved = job.reshape(moved, shape, "data_matrix")
    weight = job.transpose(job.input(index), [own.index(letter) for letter in (*batch, *rows, *columns)], "weight")
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
    letters = "".join(chr(0x3B1 + position) for position in range(rank - len(other) + 3))  # Greek: equations are ASCII
    return other.replace("...", letters), out.replace("...", letters)


def _fits(kind: TensorType | None, letters: str, sizes: Mapping[str, int]) -> bool:
    """Return whether activations may have the sizes that the weight has: an axis of size 1 against a larger one would be repeated."""
    dims = zip(letters, kind.shape, strict=True) if kind is not None and kind.shape is not None else ()
    return all(not isinstance(dim, int) or sizes.get(letter, dim) == dim for letter, dim in dims)


_LOWERINGS: Mapping[str, Callable[[_Lowering], None]] = {
    "com.microsoft::FusedConv": _fused_conv,
    "com.microsoft::FusedGemm": _fused_gemm,
    "com.microsoft::FusedMatMul": _fused_matmul,
    "Einsum": _einsum,
}
