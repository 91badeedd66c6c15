"""Constants that multiply and are no trained weights.

No accelerator would store them in a crossbar, so they stay digital.

The rule. A constant factor is a table, not a weight, where one of these holds; each is listed with
its reason among what stays digital.

1. *No data*: the other factor is computed from the sizes of tensors alone, without data and without
  other tables, so that the product is the same for all samples.
2. *Angles*: the other factor are positions (integers of an input, or sizes; no floats of an input
  and nothing looked up with one), one number for each product, the constant is
   positive and falls or rises throughout, and both the sine and the cosine of the result are taken,
   and nothing else.
3. *A formula*: the values follow one (see `named_tables`), or all channels of a depthwise
  convolution have one filter.

Whatever is not recognised is a weight: a trained weight that stays digital would make a network
look safer than it is, a table that is mapped only costs devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io import named_tables
from cimrobust.onnx_io.tensors import num_elements
from cimrobust.onnx_io.views import FLOAT_TYPES
from cimrobust.onnx_io.walk import all_graphs, all_nodes, int_attribute, read_names

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.onnx_io.layouts import Layout
    from cimrobust.onnx_io.shapes import TensorType
    from cimrobust.onnx_io.weights import Weights, WeightUse

_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_SIZES = frozenset({"Shape", "Size"})
#: What lies between a product and the sine of it without changing which angles they are.
_MOVES = frozenset(
    {
        "Concat",
        "Cast",
        "Expand",
        "Flatten",
        "Identity",
        "Mul",
        "Reshape",
        "Slice",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_LOOK_UPS = frozenset(
    {"Gather", "GatherElements", "GatherND", "OneHot", "EyeLike", "ScatterElements", "ScatterND"}
)


class Flow:
    """What tensors of a graph depend on.

    Attributes:
        data: Tensors that depend on the values of an input.
        features: Tensors that depend on floats of an input, or on what an input looks up in a table
            of floats.
        learned: Tensors that depend on initializers of several floats.
    """

    def __init__(self, weights: Weights, types: Mapping[str, TensorType]) -> None:
        graph = weights.graph
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._outputs = {value.name for inner in all_graphs(graph) for value in inner.output}
        bodies = [value.name for inner in all_graphs(graph) for value in inner.input]
        self.data: set[str] = set(bodies)
        self.features = {
            name for name in bodies if name not in types or types[name].elem_type in FLOAT_TYPES
        }
        self.learned = {
            tensor.name
            for tensor in graph.initializer
            if tensor.data_type in FLOAT_TYPES and num_elements(tensor) > 1
        }
        for node in all_nodes(graph):
            read = read_names(node)
            for name in read:
                self._readers.setdefault(name, []).append(node)
            made = {name for name in node.output if name}
            if node.op_type in _SIZES and not node.domain:
                continue
            if read & self.data:
                self.data |= made
            if read & self.learned:
                self.learned |= made
            if read & self.features or (read & self.data and self._looks_up(node, weights)):
                self.features |= made
            if not read:  # random numbers
                self.data |= made
                self.features |= made

    @staticmethod
    def _looks_up(node: onnx.NodeProto, weights: Weights) -> bool:
        """Tell whether a node makes features of integers.

        An embedding, a code, or an operator that may do either.
        """
        if node.domain or node.op_type in _LOOK_UPS:
            floats = [
                tensor
                for name in node.input
                if (tensor := weights.constants.tensor(name)) is not None
                and tensor.data_type in FLOAT_TYPES
            ]
            return bool(floats) or node.op_type == "OneHot" or bool(node.domain)
        return False

    def takes_angles(self, name: str) -> bool:
        """Tell whether sine and cosine of a tensor are taken, and nothing else is done with it."""
        found: set[str] = set()
        pending, seen = [name], {name}
        while pending:
            tensor = pending.pop()
            if tensor in self._outputs:
                return False
            for node in self._readers.get(tensor, []):
                if node.domain or node.op_type not in _MOVES | {"Sin", "Cos"}:
                    return False
                if node.op_type in ("Sin", "Cos"):
                    found.add(node.op_type)
                else:
                    pending += [made for made in node.output if made and made not in seen]
                    seen.update(node.output)
        return found == {"Sin", "Cos"}


def table_reason(use: WeightUse, layout: Layout, weights: Weights, flow: Flow) -> str | None:
    """Return why a constant factor is a table that stays digital; None: it counts as a weight."""
    node = use.node
    if node.op_type in _PRODUCTS and not node.domain and len(use.trace.leaves) == 1:
        others = [name for index, name in enumerate(node.input[:2]) if index != use.slot.index]
        if others and not any(name in flow.data | flow.learned for name in others):
            return "digital: a table, its product is the same for all samples"
        if (
            layout.num_rows == 1
            and not any(name in flow.features for name in others)
            and flow.takes_angles(node.output[0])
            and (values := _values(use, weights)) is not None
            and _is_monotonic(values.reshape(-1))
        ):
            return "digital: a table of frequencies, which positions are multiplied by"
    name = _formula(use, layout, weights)
    return None if name is None else f"digital: a table, {name}"


def _formula(use: WeightUse, layout: Layout, weights: Weights) -> str | None:
    """Return what table the values are."""
    node = use.node
    values = _values(use, weights)
    if node.domain or node.op_type not in _PRODUCTS | _CONVOLUTIONS or values is None:
        return None
    if node.op_type in _CONVOLUTIONS and _is_depthwise(node, values.shape):
        return (
            "one filter for all channels"
            if named_tables.same_kernels(values.reshape(len(values), -1))
            else None
        )
    if layout.num_groups != 1:
        return None
    return named_tables.name_of(_matrix(values, layout))


def _matrix(
    values: Float32[np.ndarray, "..."], layout: Layout
) -> Float32[np.ndarray, "rows columns"]:
    """Return values as a matrix of one column an output."""
    column = layout.column
    moving = [
        axis for axis in range(column.ndim) if column.strides[axis] and column.shape[axis] > 1
    ]
    if len(moving) == 1:
        rows = np.moveaxis(values, moving[0], 0)
    else:
        rows = values.reshape(-1)[np.argsort(column.reshape(-1), kind="stable")]
    return rows.reshape(layout.num_cols, layout.num_rows).T


def _values(use: WeightUse, weights: Weights) -> Float32[np.ndarray, "..."] | None:
    """Return a constant as the node sees it, None where it is no view of one float tensor."""
    tensor = (
        weights.constants.tensor(use.trace.leaves[0])
        if len(use.trace.leaves) == 1 and not use.trace.dequantisers
        else None
    )
    if tensor is None or tensor.data_type not in FLOAT_TYPES:
        return None
    stored = weights.array(tensor).astype(np.float32, copy=False)
    values: Float32[np.ndarray, "..."] = (
        stored.reshape(use.trace.shape)
        if use.trace.is_whole
        else stored.reshape(-1)[use.trace.index]
    )
    return values


def _is_monotonic(values: Float32[np.ndarray, "inputs"]) -> bool:
    steps = np.diff(values)
    return bool((values > 0).all() and ((steps <= 0).all() or (steps >= 0).all()))


def _is_depthwise(node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    return shape[0] == int_attribute(node, "group", 1) and shape[1] == 1
