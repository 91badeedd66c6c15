"""Constant folding where it is needed.

Shape arithmetic, constant conditions, and weights that are computed from constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.evaluate import evaluate_node
from cimrobust.onnx_io.size_limits import (
    MAX_COMPUTED_PRODUCTS,
    MAX_COMPUTED_SHARE,
    MAX_SHAPE_ELEMENTS,
    MAX_TENSOR_BYTES,
    MIN_COMPUTED_BYTES,
)
from cimrobust.onnx_io.tensors import decode, element_bits, encode, num_bytes, num_elements
from cimrobust.onnx_io.walk import all_graphs, all_nodes, attributes, int_attribute, subgraphs

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.onnx_io.shapes import TensorType

#: Exact on integers and short float vectors: what exporters compute shapes with.
SHAPE_OPS = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "LessOrEqual",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)

#: Arithmetic that weights are computed with (weight norm, scaling, stacking of gates); random
#: generators are not among them.
WEIGHT_OPS = SHAPE_OPS | frozenset(
    {
        "CastLike",
        "Clip",
        "Cos",
        "CumSum",
        "DepthToSpace",
        "DequantizeLinear",
        "Einsum",
        "Erf",
        "Exp",
        "EyeLike",
        "GatherElements",
        "GatherND",
        "Gemm",
        "Identity",
        "Log",
        "LpNormalization",
        "MatMul",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceMean",
        "ReduceSumSquare",
        "Relu",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softmax",
        "Softplus",
        "SpaceToDepth",
        "Sqrt",
        "Sum",
        "Tanh",
        "Tril",
        "Trilu",
    }
)


class Constants:
    """Values of tensors that are known before the network runs; computed when asked for.

    The nodes must be sorted.
    """

    def __init__(
        self, graph: onnx.GraphProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]
    ) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in all_nodes(graph) for name in node.output if name}
        self._opsets = opsets
        self._types = types
        self._values: dict[str, Shaped[np.ndarray, "..."] | None] = {}
        stored = sum(num_bytes(tensor) for tensor in graph.initializer)
        self._bytes_left = min(
            max(MIN_COMPUTED_BYTES, MAX_COMPUTED_SHARE * stored), 2 * MAX_TENSOR_BYTES
        )
        self._products_left = MAX_COMPUTED_PRODUCTS
        self._constant = set(self._tensors)
        for node in all_nodes(graph):
            if self._may_evaluate(node) and all(
                not name or name in self._constant for name in node.input
            ):
                self._constant |= {name for name in node.output if name}

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor."""
        return self._makers.get(name)

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """Return a tensor if it is an initializer."""
        return self._tensors.get(name)

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is an initializer or computed from initializers alone.

        Only operators that are evaluated here may compute it.
        """
        return name in self._constant

    def value(self, name: str) -> Shaped[np.ndarray, "..."] | None:
        """Return the value of a tensor, None if it is not constant or cannot be computed.

        Raises:
            ModelNotCoveredError: The file asks for more memory or work than constants may take.
        """
        pending = [name] if name in self._constant else []
        while pending:
            current = pending[-1]
            node = self._makers.get(current)
            missing = (
                []
                if node is None
                else [source for source in node.input if source and source not in self._values]
            )
            if missing and current not in self._values:
                pending += missing
                continue
            pending.pop()
            if current not in self._values:
                self._values.update(self._compute(current, node))
        return self._values.get(name)

    def _may_evaluate(self, node: onnx.NodeProto) -> bool:
        """Return whether a node is evaluated here.

        Known operator, no bodies, outputs of known size within the limit.
        """
        if node.domain == "com.microsoft" and node.op_type in (
            "DequantizeLinear",
            "QuantizeLinear",
        ):
            return True  # as large as their input; inference knows no operators of this domain
        if (
            node.domain
            or node.op_type not in WEIGHT_OPS
            or not node.input
            or any(True for _ in subgraphs(node))
        ):
            return False
        kinds = [self._types.get(name) for name in node.output if name]
        return all(kind is not None and _bytes_of(kind) <= self._bytes_left for kind in kinds)

    def _compute(
        self, name: str, node: onnx.NodeProto | None
    ) -> dict[str, Shaped[np.ndarray, "..."] | None]:
        if node is None:
            return {name: decode(self._tensors[name])}
        inputs = [self._values[source] if source else None for source in node.input]
        nothing: dict[str, Shaped[np.ndarray, "..."] | None] = dict.fromkeys(node.output)
        if any(source and value is None for source, value in zip(node.input, inputs, strict=True)):
            return nothing
        self._spend(node, inputs)
        try:
            results = evaluate_node(node, inputs, self._opsets)
        except ValueError:
            return nothing
        return dict(zip(node.output, results, strict=True))

    def _spend(
        self, node: onnx.NodeProto, inputs: Sequence[Shaped[np.ndarray, "..."] | None]
    ) -> None:
        """Count what a node is about to take.

        Raises:
            ModelNotCoveredError: It is more than is left.
        """
        kinds = [self._types.get(name) for name in node.output if name]
        made = sum(0.0 if kind is None else _bytes_of(kind) for kind in kinds)
        # What inference does not tell is as large as the input: of com.microsoft, quantisers alone
        # are evaluated.
        self._bytes_left -= (
            int(made)
            if math.isfinite(made)
            else 4 * sum(value.size for value in inputs if value is not None)
        )
        self._products_left -= _num_products(node, inputs)
        if min(self._bytes_left, self._products_left) < 0:
            raise ModelNotCoveredError(
                f"constants that a model computes must take at most {MIN_COMPUTED_BYTES} bytes, or"
                f" {MAX_COMPUTED_SHARE} times the bytes of its tensors, and {MAX_COMPUTED_PRODUCTS}"
                f" multiplications, got more (node '{node.name}', {node.op_type}); export the model"
                " with constants folded"
            )


def _bytes_of(kind: TensorType) -> float:
    """Return the bytes of a tensor, infinite where its shape is not known."""
    shape = kind.static_shape
    return math.inf if shape is None else math.prod(shape) * element_bits(kind.elem_type) / 8


def _num_products(node: onnx.NodeProto, inputs: Sequence[Shaped[np.ndarray, "..."] | None]) -> int:
    """Return about how many multiplications a matrix product takes, 0 for other operators."""
    shapes = [value.shape for value in inputs if value is not None]
    if node.op_type in ("MatMul", "Gemm") and len(shapes) > 1 and shapes[0] and shapes[1]:
        columns = (
            shapes[1][0 if int_attribute(node, "transB", 0) else -1] if len(shapes[1]) > 1 else 1
        )
        batch = math.prod(shapes[1][:-2]) if math.prod(shapes[0][:-2]) == 1 else 1
        return math.prod(shapes[0]) * columns * batch
    if node.op_type != "Einsum":
        return 0
    sizes: dict[str, int] = {}
    terms = str(attributes(node).get("equation", "")).partition("->")[0].replace(" ", "").split(",")
    for term, shape in zip(terms, shapes, strict=False):
        for place, letter in enumerate(term.replace("...", "")):
            sizes[letter] = max(sizes.get(letter, 1), shape[place] if place < len(shape) else 1)
    extra = max(
        (math.prod(shape) for term, shape in zip(terms, shapes, strict=False) if "..." in term),
        default=1,
    )
    return math.prod(sizes.values()) * extra


def fold_shape_arithmetic(
    graph: onnx.GraphProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]
) -> int:
    """Replace nodes that compute small tensors from constants by initializers, in place.

    The tensors are integer or boolean.

    Returns:
        Number of nodes replaced.
    """
    small = [tensor for tensor in graph.initializer if num_elements(tensor) <= MAX_SHAPE_ELEMENTS]
    known = {tensor.name: decode(tensor) for tensor in small if _is_shape_like(tensor.data_type)}
    kept: list[onnx.NodeProto] = []
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        results = (
            _fold_small(node, known, opsets, types) if not outputs & set(node.output) else None
        )
        if results is None:
            kept.append(node)
            continue
        for name, value in results.items():
            known[name] = value
            graph.initializer.append(encode(value, name))
    folded = len(graph.node) - len(kept)
    if folded:
        replace_nodes(graph, kept)
    return folded


def _is_shape_like(elem_type: int) -> bool:
    return elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


def _fold_small(
    node: onnx.NodeProto,
    known: Mapping[str, Shaped[np.ndarray, "..."]],
    opsets: Mapping[str, int],
    types: Mapping[str, TensorType],
) -> dict[str, Shaped[np.ndarray, "..."]] | None:
    if (
        node.domain
        or node.op_type not in SHAPE_OPS
        or not node.input
        or not all(not name or name in known for name in node.input)
    ):
        return None
    for name in node.output:
        kind = types.get(name)
        shape = kind.static_shape if kind else None
        if (
            kind is None
            or shape is None
            or math.prod(shape) > MAX_SHAPE_ELEMENTS
            or not _is_shape_like(kind.elem_type)
        ):
            return None
    try:
        results = evaluate_node(node, [known.get(name) for name in node.input], opsets)
    except ValueError:
        return None
    return dict(zip(node.output, results, strict=True))


def replace_nodes(graph: onnx.GraphProto, kept: Iterable[onnx.NodeProto]) -> None:
    """Give a graph other nodes, in place; they may come from it."""
    copies = []
    for node in kept:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def replace_by_initializer(
    graph: onnx.GraphProto, name: str, value: Shaped[np.ndarray, "..."]
) -> None:
    """Make a tensor that a node (of the graph or a body) computes an initializer, in place.

    A node without outputs left goes.
    """
    for inner in all_graphs(graph):
        if not any(name in node.output for node in inner.node):
            continue
        kept: list[onnx.NodeProto] = []
        for node in inner.node:
            if name in node.output:
                if len([output for output in node.output if output]) == 1:
                    continue
                node.output[:] = ["" if output == name else output for output in node.output]
            kept.append(node)
        replace_nodes(inner, kept)
    graph.initializer.append(encode(value, name))
