"""Which weights are stored in crossbars, seen as which matrices, and what stays digital."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.onnx_io.coverage import slot_problem, unmapped_nodes
from cimrobust.onnx_io.fixed_tables import Flow, table_reason
from cimrobust.onnx_io.layers import (
    CrossbarLayer,
    LayerScan,
    LayerUse,
    UnmappedNode,
    ValuesOfFile,
)
from cimrobust.onnx_io.levels import ScaleMap, add_scales, first_reads, stored_values
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.tensors import element_bits
from cimrobust.onnx_io.views import FLOAT_TYPES
from cimrobust.onnx_io.walk import node_depths, op_name, opset_versions
from cimrobust.onnx_io.weights import Weights, WeightUse

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Int32, Real
    from cimrobust.onnx_io.layouts import Layout
    from cimrobust.onnx_io.network import Network


@dataclass
class _Leaf:
    """One initializer while its uses are collected.

    Attributes:
        scales: Scale and zero point of every element.
        size: Number of elements.
        column: Column of every element, int32, -1 where no use has read it yet; None: nowhere.
        is_full: Every element has a column.
        parts: Groups, columns and elements that each use added.
        uses: Uses found.
    """

    scales: ScaleMap
    size: int
    column: Int32[np.ndarray, "weights"] | None = None
    is_full: bool = False
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    uses: list[LayerUse] = field(default_factory=list)


def scan_layers(network: Network, *, stored: Collection[str] = ()) -> LayerScan:
    """Find all weights of a network that crossbars store.

    Every Conv, ConvTranspose, DeformConv, Gemm, MatMul, plain Einsum, LSTM, GRU, RNN and their
    quantised forms with a constant weight counts; the weight may reach the node through nodes that
    move, retype or dequantise its elements. An initializer that several nodes read is one array.
    Layers stand in the order in which data reaches them, those at the same depth by name: the order
    of independent nodes in a file is no part of a network.

    Args:
        network: The network.
        stored: Initializers that are stored although they are tables, see `graph.fixed_tables`.
    """
    types = infer_types(network.model, strict=False)
    weights = Weights(
        network.model.graph, opset_versions(network.model), types, arrays=network.initializers
    )
    flow = Flow(weights, types)
    leaves: dict[str, _Leaf] = {}
    failed: dict[str, str] = {}
    tables: dict[str, str] = {}
    mapped: set[str] = set()
    for use in weights.uses():
        try:
            layout = _layout_of(use, weights)
            table = (
                None
                if stored and set(use.trace.leaves) <= set(stored)
                else table_reason(use, layout, weights, flow)
            )
            if table is None:
                _add_use(use, layout, weights, leaves)
                mapped.add(use.node.name)
            else:
                failed[use.node.name], tables[use.node.name] = table, use.trace.leaves[0]
        except ValueError as err:
            failed[use.node.name] = str(err)
    order = _in_order(leaves, node_depths(network.model.graph))
    layers = _of_one_width(tuple(_layer(name, leaves[name], weights, network) for name in order))
    unmapped = [
        UnmappedNode(node.name, op_name(node), reason, table=tables.get(node.name, ""))
        for node, reason in unmapped_nodes(weights, mapped, failed)
    ]
    return LayerScan(layers, tuple(unmapped))


def _in_order(leaves: Mapping[str, _Leaf], depths: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the initializers by the depth of the first node that reads them.

    At one depth by name, the weights of one node together, those of its inputs first.
    """
    first: dict[str, str] = {}
    for name, leaf in leaves.items():
        for use in leaf.uses:
            first[use.node] = min(name, first.get(use.node, name))
    places = {
        name: min((depths[use.node], first[use.node], use.role == "R", name) for use in leaf.uses)
        for name, leaf in leaves.items()
    }
    return sorted(leaves, key=lambda name: places[name])


def _layout_of(use: WeightUse, weights: Weights) -> Layout:
    """Return how a node sees its weight; raise ValueError with the reason if it stays digital."""
    problem = slot_problem(use, weights.constants)
    if problem:
        raise ValueError(problem)
    return use.slot.layout(use.node, use.shape)


def _add_use(use: WeightUse, layout: Layout, weights: Weights, leaves: dict[str, _Leaf]) -> None:
    """Add a use to all its leaves; raises ValueError with the reason where it stays digital."""
    maps = {
        name: _scales_of(name, size, use, weights, leaves)
        for name, size in zip(use.trace.leaves, use.trace.sizes, strict=True)
    }
    start = 0
    for name, size in zip(use.trace.leaves, use.trace.sizes, strict=True):
        leaf = leaves.setdefault(name, _Leaf(maps[name], size))
        _add_columns(leaf, start, use, layout)
        path = tuple(op_name(node) for node in use.trace.nodes)
        leaf.uses.append(LayerUse(use.node.name, op_name(use.node), use.slot.role, path))
        start += size


def _scales_of(
    name: str, size: int, use: WeightUse, weights: Weights, leaves: dict[str, _Leaf]
) -> ScaleMap:
    if size == 0:
        raise ValueError("its weight has no elements")
    scales = leaves[name].scales if name in leaves else ScaleMap(size)
    add_scales(scales, name, use, weights.constants)
    return scales


def _add_columns(leaf: _Leaf, start: int, use: WeightUse, layout: Layout) -> None:
    """Give elements that this use is the first to read a column.

    New columns come after those of earlier uses.
    """
    if leaf.is_full:
        return
    is_as_stored = all(node.op_type == "DequantizeLinear" for node in use.trace.nodes)
    if is_as_stored and not leaf.parts:  # the usual case: the whole initializer
        leaf.column, leaf.is_full = _frozen(layout.column), True
        leaf.parts.append((layout.num_groups, layout.num_groups * layout.num_cols, leaf.size))
        return
    if leaf.column is None:
        leaf.column = np.full(leaf.size, -1, np.int32)
    positions, places = first_reads(use.trace.index, start, leaf.size)
    columns = layout.column.reshape(-1)[places]
    fresh = leaf.column[positions] < 0
    if not fresh.any():
        return
    used, dense = np.unique(columns[fresh], return_inverse=True)
    offset = sum(num_cols for _, num_cols, _ in leaf.parts)
    leaf.column[positions[fresh]] = dense + offset
    num_groups = len(np.unique(used // layout.num_cols))
    leaf.parts.append((num_groups, len(used), int(fresh.sum())))


def _layer(name: str, leaf: _Leaf, weights: Weights, network: Network) -> CrossbarLayer:
    tensor = weights.constants.tensor(name)
    assert tensor is not None
    assert leaf.column is not None
    kept: Float32[np.ndarray, "..."] | ValuesOfFile = ValuesOfFile(network.initializers, name)
    levels, scale_group = None, None
    if tensor.data_type not in FLOAT_TYPES:
        stored = stored_values(tensor, weights.array(tensor), leaf.scales)
        kept, levels, scale_group = _frozen(stored.values), stored.levels, stored.scale_group
    num_groups, num_rows, num_cols = _matrix_shape(leaf)
    shape = tuple(tensor.dims)
    return CrossbarLayer(
        initializer=name,
        uses=tuple(leaf.uses),
        shape=shape,
        num_groups=num_groups,
        num_rows=num_rows,
        num_cols=num_cols,
        stored=kept,
        # Of a whole initializer it is a view that holds one number a column.
        column=leaf.column if leaf.is_full else _frozen(np.maximum(leaf.column, 0).reshape(shape)),
        levels=None if levels is None else _frozen(levels),
        scale_group=None if scale_group is None else _frozen(scale_group),
        bits=(
            None
            if levels is None
            else network.stated_bits.get(name) or element_bits(tensor.data_type)
        ),
    )


def _of_one_width(layers: tuple[CrossbarLayer, ...]) -> tuple[CrossbarLayer, ...]:
    """Give weights that one array holds as many bits as the widest of them."""
    bits = {layer.initializer: layer.bits for layer in layers}
    arrays: dict[tuple[str, str], list[str]] = {}
    for layer in layers:
        for use in layer.uses:
            arrays.setdefault((use.node, use.role), []).append(layer.initializer)
    for _ in layers:
        before = dict(bits)
        for names in arrays.values():
            stated = [bits[name] for name in names]
            widest = None if None in stated else max(width for width in stated if width is not None)
            bits.update(dict.fromkeys(names, widest))
        if bits == before:
            break
    return tuple(
        (
            layer
            if layer.bits == bits[layer.initializer]
            else replace(layer, bits=bits[layer.initializer])
        )
        for layer in layers
    )


def _matrix_shape(leaf: _Leaf) -> tuple[int, int, int]:
    """Return groups, rows and columns of the matrices.

    Parts that differ in form become one wide matrix.
    """
    rows = [-(-num_elements // num_cols) for _, num_cols, num_elements in leaf.parts]
    total_groups = sum(num_groups for num_groups, _, _ in leaf.parts)
    total_cols = sum(num_cols for _, num_cols, _ in leaf.parts)
    if (
        len(set(rows)) == 1
        and total_cols % total_groups == 0
        and (len(leaf.parts) == 1 or total_groups > len(leaf.parts))
    ):
        return total_groups, rows[0], total_cols // total_groups
    return 1, max(rows), total_cols


def _frozen(values: Real[np.ndarray, "*weight"]) -> Real[np.ndarray, "*weight"]:
    values.setflags(write=False)
    return values
