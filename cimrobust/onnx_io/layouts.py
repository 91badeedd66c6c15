"""How a node sees its weight as matrices.

Which inputs of which operators are weights, and the output column of every element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.walk import attributes, int_attribute, op_name

if TYPE_CHECKING:
    from cimrobust.array_shapes import Int32


@dataclass(frozen=True)
class Layout:
    """A weight tensor as matrices.

    Attributes:
        column: Output column of every element, ``0 <= column < num_groups * num_cols``, int32, the
            weight's shape at the node, read-only; axes along which it does not change take no
            memory.
        num_groups: Separate matrices.
        num_rows: Inputs of one dot product.
        num_cols: Output columns of one matrix.
    """

    column: Int32[np.ndarray, "..."]
    num_groups: int
    num_rows: int
    num_cols: int


@dataclass(frozen=True)
class Slot:
    """An input of a node that may hold a stored weight.

    Attributes:
        index: Position among the node's inputs.
        role: Its name in the operator's schema.
        layout: Makes the layout from the node and the weight's shape at the node; raises ValueError
            with the reason if there is none.
        scale: Position of the weight's scale input, None if the operator has none.
        zero_point: Position of the weight's zero point input.
        channel_axis: Axis of the weight that a vector of scales or zero points runs along.
        scalars: Positions of further quantisation inputs that must be constant scalars.
    """

    index: int
    role: str
    layout: Callable[[onnx.NodeProto, tuple[int, ...]], Layout]
    scale: int | None = None
    zero_point: int | None = None
    channel_axis: int = 0
    scalars: tuple[int, ...] = ()


def _along(shape: tuple[int, ...], axis: int, count: int) -> Int32[np.ndarray, "..."]:
    """Return 0 .. count-1 along an axis of an int32 array of a shape."""
    view = [1] * len(shape)
    view[axis] = count
    return np.broadcast_to(np.arange(count, dtype=np.int32).reshape(view), shape)


def conv_layout(node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
    """Convolution weight [C_out, C_in / groups, kernel ...].

    One matrix a group, one column an output channel.
    """
    groups = int_attribute(node, "group", 1)
    _require(
        len(shape) >= 3 and groups > 0 and shape[0] % groups == 0,
        f"weight shape {list(shape)} does not fit {groups} groups",
    )
    return Layout(_along(shape, 0, shape[0]), groups, math.prod(shape[1:]), shape[0] // groups)


def conv_transpose_layout(node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
    """Transposed convolution weight [C_in, C_out / groups, kernel ...].

    One input pixel drives C_in / groups word lines; every output channel at every kernel position
    is a column of its own.
    """
    groups = int_attribute(node, "group", 1)
    _require(
        len(shape) >= 3 and groups > 0 and shape[0] % groups == 0,
        f"weight shape {list(shape)} does not fit {groups} groups",
    )
    rows, cols = shape[0] // groups, math.prod(shape[1:])
    if groups == 1:
        one = np.arange(cols, dtype=np.int32).reshape(1, *shape[1:])
        return Layout(np.broadcast_to(one, shape), groups, rows, cols)
    column = (
        np.arange(groups, dtype=np.int32).repeat(rows)[:, None] * cols
        + np.arange(cols, dtype=np.int32)[None, :]
    )
    return Layout(column.reshape(shape), groups, rows, cols)


def _matrix_layout(shape: tuple[int, ...], *, row_axis: int, column_axis: int) -> Layout:
    """Stack of matrices.

    Leading axes are groups, the last two are `row_axis` and `column_axis` (counted from the end).
    """
    _require(len(shape) >= 2, f"weight shape {list(shape)} is no matrix")
    groups, rows, cols = math.prod(shape[:-2]), shape[row_axis], shape[column_axis]
    if groups == 1:
        return Layout(_along(shape, column_axis, cols), groups, rows, cols)
    group = np.arange(groups, dtype=np.int32).reshape(*shape[:-2], 1, 1)
    one = _along((*[1] * (len(shape) - 2), *_without(shape[-2:], row_axis)), column_axis, cols)
    return Layout(np.broadcast_to(group * cols + one, shape), groups, rows, cols)


def _without(matrix: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the shape of a matrix with one entry along an axis."""
    return tuple(1 if place == axis % 2 else size for place, size in enumerate(matrix))


def matmul_right_layout(_node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
    """Right operand [..., rows, columns], or a vector, which is one column."""
    if len(shape) == 1:
        return Layout(np.zeros(shape, np.int32), 1, shape[0], 1)
    return _matrix_layout(shape, row_axis=-2, column_axis=-1)


def matmul_left_layout(_node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
    """Left operand [..., columns, rows]: the input of the dot products comes from the right."""
    if len(shape) == 1:
        return Layout(np.zeros(shape, np.int32), 1, shape[0], 1)
    return _matrix_layout(shape, row_axis=-1, column_axis=-2)


def _transposable(operand: str) -> Callable[[onnx.NodeProto, tuple[int, ...]], Layout]:
    """Return the layout of a Gemm operand.

    Left (`A`) or right (`B`), transposed or not by the node's attribute.
    """

    def layout(node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
        _require(
            not int_attribute(node, "transBatchA", 0) and not int_attribute(node, "transBatchB", 0),
            "batch axes are transposed",
        )
        transposed = bool(int_attribute(node, f"trans{operand}", 0))
        is_left = (operand == "A") != transposed
        return matmul_left_layout(node, shape) if is_left else matmul_right_layout(node, shape)

    return layout


def recurrent_layout(_node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
    """Weights of LSTM, GRU, RNN.

    [directions, gates * hidden, inputs], one matrix a direction, gates side by side.
    """
    _require(len(shape) == 3, f"weight shape {list(shape)} must have 3 axes")
    return _matrix_layout(shape, row_axis=-1, column_axis=-2)


def einsum_layout(operand: int) -> Callable[[onnx.NodeProto, tuple[int, ...]], Layout]:
    """Return the layout of one operand of an Einsum that is a plain (batched) matrix product."""

    def layout(node: onnx.NodeProto, shape: tuple[int, ...]) -> Layout:
        own, other, out = einsum_terms(node, operand)
        _require(
            len(own) == len(shape) == len(set(own)), "the equation repeats an index of the weight"
        )
        _require(
            set(own) <= set(other) | set(out),
            "the equation sums the weight over an index of its own",
        )
        batch = [letter for letter in own if letter in other and letter in out]
        columns = [letter for letter in own if letter not in other]
        sizes = dict(zip(own, shape, strict=True))
        column = np.zeros(shape, np.int32)
        for letter in (*batch, *columns):
            column = column * np.int32(sizes[letter]) + _along(
                shape, own.index(letter), sizes[letter]
            )
        groups, cols = (
            math.prod(sizes[letter] for letter in batch),
            math.prod(sizes[letter] for letter in columns),
        )
        rows = math.prod(
            size for letter, size in sizes.items() if letter not in batch and letter not in columns
        )
        return Layout(column, groups, rows, cols)

    return layout


def einsum_terms(node: onnx.NodeProto, operand: int) -> tuple[str, str, str]:
    """Return the index letters of the weight, the other operand and the output."""
    equation = str(attributes(node).get("equation", "")).replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    _require(len(terms) == 2 and len(node.input) == 2, "the equation has not two operands")
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        out = "..." * ("..." in left) + "".join(
            sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        )
    _require("..." not in terms[operand], "the weight has an ellipsis in the equation")
    return terms[operand], terms[1 - operand], out


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


_CONV = (Slot(1, "W", conv_layout),)
_GEMM = (Slot(1, "B", _transposable("B")), Slot(0, "A", _transposable("A")))
_RECURRENT = (Slot(1, "W", recurrent_layout), Slot(2, "R", recurrent_layout))

#: Inputs that may hold stored weights, the usual one first. Where several slots of one node are
#: alternatives, only one may be constant; recurrent layers use both.
SLOTS: dict[str, tuple[Slot, ...]] = {
    "Conv": _CONV,
    "ConvTranspose": (Slot(1, "W", conv_transpose_layout),),
    "DeformConv": _CONV,
    "Gemm": _GEMM,
    "MatMul": (Slot(1, "B", matmul_right_layout), Slot(0, "A", matmul_left_layout)),
    "Einsum": (Slot(1, "B", einsum_layout(1)), Slot(0, "A", einsum_layout(0))),
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "QLinearConv": (
        Slot(3, "w", conv_layout, scale=4, zero_point=5, channel_axis=0, scalars=(1, 2, 6, 7)),
    ),
    "com.microsoft::QLinearConv": (
        Slot(3, "w", conv_layout, scale=4, zero_point=5, channel_axis=0, scalars=(1, 2, 6, 7)),
    ),
    "QLinearMatMul": (
        Slot(
            3,
            "b",
            matmul_right_layout,
            scale=4,
            zero_point=5,
            channel_axis=-1,
            scalars=(1, 2, 6, 7),
        ),
        Slot(
            0, "a", matmul_left_layout, scale=1, zero_point=2, channel_axis=-2, scalars=(4, 5, 6, 7)
        ),
    ),
    "com.microsoft::QGemm": (
        Slot(
            3, "B", _transposable("B"), scale=4, zero_point=5, channel_axis=-1, scalars=(1, 2, 7, 8)
        ),
    ),
    "ConvInteger": (Slot(1, "w", conv_layout, zero_point=3, channel_axis=0, scalars=()),),
    "MatMulInteger": (
        Slot(1, "B", matmul_right_layout, zero_point=3, channel_axis=-1),
        Slot(0, "A", matmul_left_layout, zero_point=2, channel_axis=-2),
    ),
    "com.microsoft::DynamicQuantizeMatMul": (
        Slot(1, "B", matmul_right_layout, scale=2, zero_point=3, channel_axis=-1),
    ),
    "com.microsoft::MatMulIntegerToFloat": (
        Slot(1, "B", matmul_right_layout, scale=3, zero_point=5, channel_axis=-1, scalars=()),
    ),
    "com.microsoft::FusedConv": _CONV,
    "com.microsoft::FusedMatMul": _GEMM,
    "com.microsoft::FusedGemm": _GEMM,
    "com.microsoft::Attention": (Slot(1, "weights", matmul_right_layout),),
}


def slots_of(node: onnx.NodeProto) -> tuple[Slot, ...]:
    """Return the inputs of a node that may hold weights.

    The channel axis of a transposed QGemm is corrected.
    """
    slots = SLOTS.get(op_name(node), ())
    if op_name(node) == "com.microsoft::QGemm" and int_attribute(node, "transB", 0):
        return tuple(
            Slot(s.index, s.role, s.layout, s.scale, s.zero_point, 0, s.scalars) for s in slots
        )
    return slots


def uses_all_slots(node: onnx.NodeProto) -> bool:
    """Return whether the slots of a node are weights side by side, not alternatives."""
    return node.op_type in ("LSTM", "GRU", "RNN")
