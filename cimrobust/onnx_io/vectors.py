"""How many input vectors one sample sends through every crossbar node.

The number is known as far as the file's shapes tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.batch import find_batch
from cimrobust.onnx_io.fold import fold_shape_arithmetic, replace_nodes
from cimrobust.onnx_io.shapes import TensorType, infer_types, without_large_data
from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import all_nodes, attributes

if TYPE_CHECKING:
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv", "FusedConv", "DeformConv"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def vectors_per_sample(network: Network, scan: LayerScan) -> dict[str, int | None]:
    """Return by node how many vectors drive the word lines of each of its arrays for one sample.

    Output pixels of a convolution, rows of a product.

    Args:
        network: The network.
        scan: Its crossbar layers.

    Returns:
        One entry a node of the scan; None where shapes depend on the data, or the node runs a
        number of times that the file does not say.
    """
    kind, size = find_batch(network.model)
    model = without_large_data(network.model)
    if kind == "dynamic":
        for value in model.graph.input:
            shape = value.type.tensor_type.shape
            if len(shape.dim):
                shape.dim[0].dim_value = 1
    types = _types(model, network)
    outer = {node.name for node in model.graph.node}
    nodes = {node.name: node for node in all_nodes(model.graph)}
    wanted = {use.node: (use.role, layer.num_groups) for layer in scan.layers for use in layer.uses}
    samples = size if kind == "fixed" and size else 1
    return {
        name: _vectors(nodes[name], role, num_groups, types, samples) if name in outer else None
        for name, (role, num_groups) in wanted.items()
    }


def _types(model: onnx.ModelProto, network: Network) -> Mapping[str, TensorType]:
    """Infer types with the batch size known, in place.

    Shapes that nodes compute from it become constants, which tell more shapes.
    """
    while True:
        types = infer_types(model, strict=False, ignore_output_shapes=True)
        known = _fold_shapes(model.graph, types)
        if not known + fold_shape_arithmetic(model.graph, network.opsets, types):
            return types


def _fold_shapes(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> int:
    """Replace Shape nodes whose input has a known shape, in place; return their number."""
    kept, num_folded = [], 0
    for node in graph.node:
        shape = (
            _shape(types, node.input[0]) if node.op_type == "Shape" and not node.domain else None
        )
        if shape is None:
            kept.append(node)
            continue
        values = attributes(node)
        part = np.asarray(shape, np.int64)[values.get("start", 0) : values.get("end", len(shape))]
        graph.initializer.append(encode(part, node.output[0]))
        num_folded += 1
    if num_folded:
        replace_nodes(graph, kept)
    return num_folded


def _vectors(
    node: onnx.NodeProto, role: str, num_groups: int, types: Mapping[str, TensorType], samples: int
) -> int | None:
    """Count the vectors of one node.

    `role` tells which operand of a product is stored, and every matrix of a stack has vectors of
    its own.
    """
    if node.op_type in _RECURRENT:
        shape = _shape(types, node.input[0])
        return None if shape is None or len(shape) != 3 else _share(shape[:2], samples)
    if node.op_type == "ConvTranspose":
        shape = _shape(types, node.input[0])
        return None if shape is None or len(shape) < 3 else _share((shape[0], *shape[2:]), samples)
    shape = _shape(types, node.output[0])
    if shape is None:
        return None
    if node.op_type in _CONVOLUTIONS:
        return _share((shape[0], *shape[2:]), samples)
    if node.op_type == "Einsum":
        return None
    left = role.lower() == "a"
    return _share(
        (*shape[:-2], *shape[-1:]) if left and len(shape) > 1 else shape[:-1], samples * num_groups
    )


def _shape(types: Mapping[str, TensorType], name: str) -> tuple[int, ...] | None:
    kind = types.get(name)
    return None if kind is None else kind.static_shape


def _share(dims: tuple[int, ...], samples: int) -> int | None:
    total = math.prod(dims)
    return total // samples if total % samples == 0 else None
