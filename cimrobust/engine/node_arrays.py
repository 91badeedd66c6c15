"""Which matrix products make up a crossbar node, and where their cells lie in its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.engine.crossbar_product import CellLayout
from cimrobust.onnx_io.crossbar_nodes import CrossbarNode, StoredOperand

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement


@dataclass(frozen=True)
class ArrayUse:
    """One product of activations with stored cells.

    Attributes:
        key: Unique name: the node, the input the weight is at, and for recurrent layers the
            direction.
        operand: The stored weight.
        layout: Where the cells are, from `offset` on.
        offset: First element of the operand that belongs to this product.
        for_conv: A convolution; else products of vectors.
        factor: What the product is multiplied by (alpha of Gemm).
    """

    key: str
    operand: StoredOperand
    layout: CellLayout
    offset: int
    for_conv: bool
    factor: float = 1.0


def arrays_of(node: CrossbarNode, placement: Placement) -> tuple[ArrayUse, ...]:
    """Return the products of a node, for recurrent layers one for each weight and direction.

    Args:
        node: The node.
        placement: Where its weights are stored.
    """
    if node.op in ("LSTM", "GRU", "RNN"):
        return tuple(
            use
            for operand in node.operands
            for use in _recurrent(node, operand, _tile_rows(operand, placement))
        )
    operand = node.operands[0]
    tile_rows = _tile_rows(operand, placement)
    shape = operand.index.shape
    groups = number(node.attributes, "group", 1)
    factor, for_conv = 1.0, False
    if node.op == "Conv":
        rows, cols = math.prod(shape[1:]), shape[0] // groups
        layout, for_conv = CellLayout(groups, rows, cols, tile_rows, (cols * rows, 1, rows)), True
    elif node.op == "ConvTranspose":
        rows, cols = shape[0] // groups, math.prod(shape[1:])
        layout = CellLayout(groups, rows, cols, tile_rows, (rows * cols, cols, 1))
    else:
        layout = _matrix(node, operand, tile_rows)
        factor = float(str(node.attributes.get("alpha", 1.0))) if node.op == "Gemm" else 1.0
    return (ArrayUse(f"{node.name}/{operand.role}", operand, layout, 0, for_conv, factor),)


def _tile_rows(operand: StoredOperand, placement: Placement) -> int:
    return placement.array_profile(operand.leaves).tile.rows


def number(attributes: Mapping[str, object], name: str, default: int) -> int:
    """Return an integer attribute."""
    return int(str(attributes.get(name, default)))


def _matrix(node: CrossbarNode, operand: StoredOperand, tile_rows: int) -> CellLayout:
    """Return the layout of an operand of Gemm or MatMul.

    Leading axes are groups, a vector is one column.
    """
    shape = operand.index.shape
    if len(shape) == 1:
        return CellLayout(1, shape[0], 1, tile_rows, (0, 1, 0))
    groups, (first, second) = math.prod(shape[:-2]), shape[-2:]
    transposed = (
        bool(number(node.attributes, "transA" if operand.slot == 0 else "transB", 0))
        if node.op == "Gemm"
        else False
    )
    rows_first = (operand.slot == 1) != transposed
    if rows_first:
        return CellLayout(groups, first, second, tile_rows, (first * second, second, 1))
    return CellLayout(groups, second, first, tile_rows, (first * second, 1, second))


def _recurrent(node: CrossbarNode, operand: StoredOperand, tile_rows: int) -> list[ArrayUse]:
    directions, columns, rows = operand.index.shape
    layout = CellLayout(1, rows, columns, tile_rows, (0, 1, rows))
    keys = [f"{node.name}/{operand.role}/{direction}" for direction in range(directions)]
    return [
        ArrayUse(key, operand, layout, position * rows * columns, for_conv=False)
        for position, key in enumerate(keys)
    ]
