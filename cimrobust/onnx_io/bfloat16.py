"""Networks that compute in bfloat16, which onnxruntime has no arithmetic of for the CPU.

They are read as what hardware with bfloat16 computes: every operator in float32, its result rounded
to bfloat16. All tensors become float32; those that were bfloat16 hold numbers that it has. Weights
too, so that the deviation of a device is not rounded to 8 bits when a chip is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.memory_needs import require_memory
from cimrobust.onnx_io.shapes import infer_values
from cimrobust.onnx_io.tensors import decode, encode, num_elements
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    all_nodes,
    defined_names,
    describe,
    node_tensors,
    op_name,
)

# Operators whose results are numbers that they read, or their negatives, or what bodies give.
_MOVES = frozenset(
    {
        *("Abs", "Clip", "Max", "MaxPool", "GlobalMaxPool", "Min", "Neg", "Relu", "Sign", "Where"),
        *("Compress", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather"),
        *("GatherElements", "GatherND", "Identity", "Pad", "ReduceMax", "ReduceMin", "Reshape"),
        *("ReverseSequence", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK"),
        *("Transpose", "Trilu", "Unsqueeze", "ConstantOfShape", "If", "Loop", "Scan"),
        *("ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceInsert"),
        *("SequenceErase", "SequenceEmpty", "SplitToSequence", "Optional", "OptionalGetElement"),
    }
)

# Operators that a note names.
_SHOWN = 5

# Attributes that name an element type.
_TYPES = frozenset({"dtype", "output_dtype", "stash_type", "softmax_precision", "to"})


@dataclass(frozen=True)
class Widened:
    """What was done to a network that computes in bfloat16.

    Attributes:
        operators: Operators whose results are rounded.
        values: Graph inputs and outputs that are float32 now.
        stored: Initializers that are.
        problems: Nodes of which it is not known whether they give bfloat16; where there are any,
            the network was left as it is.
    """

    operators: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    stored: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    @property
    def instead(self) -> list[str]:
        """Why the file itself cannot be the reference of what is read; nothing where it can."""
        if not self.operators and not self.values:
            return []
        some = ", ".join(self.operators[:_SHOWN])
        more = " and more" if len(self.operators) > _SHOWN else ""
        return [
            "onnxruntime has no arithmetic in bfloat16 for the CPU, so results are computed in"
            f" float32 and rounded to bfloat16 ({some or 'no'}{more})"
        ]


def widen_bfloat16(model: onnx.ModelProto, *, where: object) -> Widened:
    """Let a network that computes in bfloat16 compute in float32 and round, in place.

    One that only stores in bfloat16, and casts what it reads, is left as it is.

    Args:
        model: The network, lowered, its names unique over all bodies.
        where: The model file.

    Raises:
        ModelNotCoveredError: Its tensors do not fit into memory as float32.
    """
    if not _has_bfloat16(model):
        return Widened()
    found = infer_values(model, strict=False)
    short = {name for name, value in found.items() if _is_short(value.type)}
    used = [
        node
        for node in all_nodes(model.graph)
        if op_name(node) not in ("Cast", "CastLike") and short.intersection(_tensors(node))
    ]
    ends = [
        value.name for value in (*model.graph.input, *model.graph.output) if value.name in short
    ]
    if not used and not ends:
        return Widened()
    unknown = [
        f"{describe(node)}: the type of its output '{name}' is not known, and other tensors are"
        " bfloat16"
        for node in all_nodes(model.graph)
        for name in node.output
        if name and (name not in found or not _is_known(found[name].type))
    ]
    if unknown:
        return Widened(problems=tuple(unknown))
    tensors = [tensor for tensor in model.graph.initializer if _is_of(tensor)]
    stored = frozenset(tensor.name for tensor in tensors)
    require_memory(
        sum(4 * num_elements(tensor) for tensor in tensors),
        what="tensors of the model as float32",
        where=where,
        hint="use a machine with more memory, or store its weights in fewer bits",
    )
    operators = _Widening(model, short).run()
    return Widened(tuple(sorted(operators)), tuple(ends), stored)


class _Widening:
    """The work on one model, in place."""

    def __init__(self, model: onnx.ModelProto, short: set[str]) -> None:
        self._graph, self._short = model.graph, short
        graphs = list(all_graphs(model.graph))
        self._names = NameMaker(name for graph in graphs for name in defined_names(graph))
        self._node_names = NameMaker(node.name for node in all_nodes(model.graph))
        self._rounded: set[str] = set()

    def run(self) -> set[str]:
        """Do all of it; return the operators whose results are rounded."""
        for graph in reversed(list(all_graphs(self._graph))):  # nodes with bodies are copied
            for value in (*graph.input, *graph.output, *graph.value_info):
                _widen_type(value.type)
            for tensor in graph.initializer:
                _widen_tensor(tensor)
            replace_nodes(graph, [made for node in graph.node for made in self._widened(node)])
        return self._rounded

    def _widened(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        operator = op_name(node)
        if operator in ("Cast", "CastLike") and node.output[0] in self._short:
            return self._rounding(node.name, node.input[0], node.output[0])
        for attribute in node.attribute:
            names_type = attribute.name in _TYPES and attribute.type == AttributeProto.INT
            if names_type and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
        for tensor in node_tensors(node):
            _widen_tensor(tensor)
        nodes = [node]
        if operator not in _MOVES:
            for index, name in enumerate(node.output):
                if name in self._short:
                    node.output[index] = self._names.take(f"{name}.exact")
                    nodes += self._rounding(f"{node.name}.round", node.output[index], name)
                    self._rounded.add(operator)
        return nodes

    def _rounding(self, name: str, exact: str, rounded: str) -> list[onnx.NodeProto]:
        """Return nodes that round a tensor to bfloat16 and give it as float32."""
        short = self._names.take(f"{rounded}.bfloat16")
        return [
            helper.make_node(
                "Cast", [read], [made], name=self._node_names.take(f"{name}.{suffix}"), to=kind
            )
            for read, made, suffix, kind in (
                (exact, short, "narrow", TensorProto.BFLOAT16),
                (short, rounded, "wide", TensorProto.FLOAT),
            )
        ]


def _has_bfloat16(model: onnx.ModelProto) -> bool:
    """Return whether a graph holds, reads or makes bfloat16."""
    graphs = list(all_graphs(model.graph))
    return (
        any(_is_of(tensor) for graph in graphs for tensor in graph.initializer)
        or any(_is_short(value.type) for graph in graphs for value in (*graph.input, *graph.output))
        or any(
            (attribute.name in _TYPES and attribute.i == TensorProto.BFLOAT16)
            or (attribute.HasField("t") and _is_of(attribute.t))
            for node in all_nodes(model.graph)
            for attribute in node.attribute
        )
    )


def _tensors(node: onnx.NodeProto) -> Iterable[str]:
    return (name for name in (*node.input, *node.output) if name)


def _is_of(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.BFLOAT16)


def _is_short(kind: onnx.TypeProto) -> bool:
    """Return whether a tensor is bfloat16, or what a sequence or an optional holds."""
    return _tensor_type(kind).elem_type == TensorProto.BFLOAT16


def _is_known(kind: onnx.TypeProto) -> bool:
    return _tensor_type(kind).elem_type != TensorProto.UNDEFINED


def _widen_type(kind: onnx.TypeProto) -> None:
    if _is_short(kind):
        _tensor_type(kind).elem_type = TensorProto.FLOAT


def _tensor_type(kind: onnx.TypeProto) -> onnx.TypeProto.Tensor:
    """Return the type of a tensor, or of those in a sequence or an optional."""
    inner = kind.WhichOneof("value")
    if inner in ("sequence_type", "optional_type"):
        return _tensor_type(getattr(kind, inner).elem_type)
    return kind.tensor_type


def _widen_tensor(tensor: TensorProto) -> None:
    if _is_of(tensor):
        tensor.CopyFrom(encode(decode(tensor).astype(np.float32), tensor.name))
