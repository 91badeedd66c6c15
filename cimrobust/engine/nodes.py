"""Crossbar nodes as the network sees them.

Shapes, padding, broadcasting and digital parts around the products of stored cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.engine.cells import run_cell
from cimrobust.engine.crossbar_product import ConvGeometry
from cimrobust.engine.node_arrays import number
from cimrobust.errors import ModelNotCoveredError

if TYPE_CHECKING:
    from cimrobust.onnx_io.crossbar_nodes import CrossbarNode

# Steps of a recurrent layer number their vectors apart, so that no read shares its noise with
# another.
_STEP = 40


@runtime_checkable
class Multiplier(Protocol):
    """One array that activations are multiplied with; `engine.crossbar.Crossbar` is one."""

    def conv(
        self,
        x: Float32[np.ndarray, "batch channels depth height width"],
        geometry: ConvGeometry,
        *,
        first_vector: int = 0,
        threads: int = 1,
    ) -> Float32[np.ndarray, "batch columns out_depth out_height out_width"]:
        """Return a convolution."""

    def vectors(
        self, x: Float32[np.ndarray, "vectors rows"], *, first_vector: int = 0, threads: int = 1
    ) -> Float32[np.ndarray, "vectors columns"]:
        """Return products of vectors."""


Arrays = Mapping[str, Multiplier]


def run_node(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    arrays: Arrays,
    *,
    bias_inside: bool,
    batch: int = 1,
    first_sample: int = 0,
) -> tuple[Float32[np.ndarray, "..."], ...]:
    """Compute the outputs of a crossbar node.

    Args:
        node: The node.
        inputs: Its inputs in order; stored weights and left out ones are None.
        arrays: Its products by key, see `engine.arrays`.
        bias_inside: The products add the bias already.
        batch: Samples of this run, for read noise.
        first_sample: Number of the first sample, for read noise.
    """
    if node.op in ("LSTM", "GRU", "RNN"):
        return _recurrent(node, inputs, arrays, first_sample, batch)
    array = arrays[f"{node.name}/{node.operands[0].role}"]
    run = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}[
        node.op
    ]
    return (run(node, inputs, array, bias_inside, _Numbering(first_sample, batch)),)


class _Numbering:
    """Numbers the vectors of a run: those of different batches never meet."""

    def __init__(self, first_sample: int, batch: int) -> None:
        self._first_sample, self._batch = first_sample, max(batch, 1)

    def first(self, num_vectors: int) -> int:
        """Return the number of the first of so many vectors."""
        return self._first_sample * math.ceil(num_vectors / self._batch)


def _conv(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    array: Multiplier,
    bias_inside: bool,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    x = _required(node, inputs[0])
    geometry = conv_geometry(node, x.shape)
    missing = 5 - x.ndim
    volume = np.ascontiguousarray(x, np.float32).reshape(*x.shape[:2], *geometry.in_size)
    y = array.conv(
        volume, geometry, first_vector=numbering.first(x.shape[0] * math.prod(geometry.out_size))
    )
    bias = inputs[2] if len(inputs) > 2 and not bias_inside else None
    if bias is not None:
        y += bias.reshape(-1, 1, 1, 1)
    return y.reshape(*y.shape[:2], *geometry.out_size[missing:])


def conv_geometry(node: CrossbarNode, shape: tuple[int, ...]) -> ConvGeometry:
    """Return the geometry of a Conv node for an input shape.

    The shape is [batch, channels, one to three axes].
    """
    axes = len(shape) - 2
    if not 1 <= axes <= 3:
        raise ModelNotCoveredError(
            f"convolution must have 1 to 3 spatial axes, got {axes} (node '{node.name}'); use such"
            " a network"
        )
    kernel = node.operands[0].index.shape[2:]
    stride, dilation = _ints(node, "strides", axes), _ints(node, "dilations", axes)
    begin, end = _pads(node, axes)
    mode = _text(node, "auto_pad") or "NOTSET"
    out, front = [], []
    for axis in range(axes):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        size = shape[2 + axis]
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            count = math.ceil(size / stride[axis])
            padding = max((count - 1) * stride[axis] + reach - size, 0)
            front.append(padding // 2 if mode == "SAME_UPPER" else padding - padding // 2)
        else:
            first, last = (0, 0) if mode == "VALID" else (begin[axis], end[axis])
            count = (size + first + last - reach) // stride[axis] + 1
            front.append(first)
        if count < 1:
            raise ModelNotCoveredError(
                f"convolution must have outputs, got an input of shape {list(shape)} (node"
                f" '{node.name}')"
            )
        out.append(count)
    return ConvGeometry(
        _three(shape[2:], 1),
        _three(out, 1),
        _three(kernel, 1),
        _three(stride, 1),
        _three(dilation, 1),
        _three(front, 0),
    )


def _conv_transpose(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    array: Multiplier,
    bias_inside: bool,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    """Multiply every input pixel with its columns, and add up what overlaps.

    There is one column for every output channel and kernel position.
    """
    x = _required(node, inputs[0])
    axes, batch, groups = x.ndim - 2, x.shape[0], number(node.attributes, "group", 1)
    weight = node.operands[0].index.shape
    kernel, channels = weight[2:], weight[1] * groups
    stride, dilation = _ints(node, "strides", axes), _ints(node, "dilations", axes)
    out, front = _transposed_size(node, x.shape[2:], kernel, stride, dilation)
    pixels = np.ascontiguousarray(np.moveaxis(x, 1, -1), np.float32).reshape(-1, x.shape[1])
    products = array.vectors(pixels, first_vector=numbering.first(len(pixels)))
    parts = products.reshape(batch, *x.shape[2:], channels, *kernel)
    full = [
        (x.shape[2 + a] - 1) * stride[a] + (kernel[a] - 1) * dilation[a] + 1 for a in range(axes)
    ]
    reach = [max(full[a], front[a] + out[a]) for a in range(axes)]
    y = np.zeros((batch, channels, *reach), np.float32)
    for position in np.ndindex(*kernel):
        target = tuple(
            slice(
                position[a] * dilation[a],
                position[a] * dilation[a] + (x.shape[2 + a] - 1) * stride[a] + 1,
                stride[a],
            )
            for a in range(axes)
        )
        y[(slice(None), slice(None), *target)] += np.moveaxis(parts[(..., *position)], -1, 1)
    y = y[(slice(None), slice(None), *(slice(front[a], front[a] + out[a]) for a in range(axes)))]
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * axes)
    return np.ascontiguousarray(y)


def _transposed_size(
    node: CrossbarNode,
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Return output size and padding in front of a ConvTranspose node.

    Both are as the operator's text has them.
    """
    axes = len(size)
    extra = _ints(node, "output_padding", axes, 0)
    full = [
        (size[a] - 1) * stride[a] + extra[a] + (kernel[a] - 1) * dilation[a] + 1
        for a in range(axes)
    ]
    mode = _text(node, "auto_pad") or "NOTSET"
    shape = node.attributes.get("output_shape")
    if shape is None and mode not in ("SAME_UPPER", "SAME_LOWER"):
        begin, end = ([0] * axes, [0] * axes) if mode == "VALID" else _pads(node, axes)
        return [full[a] - begin[a] - end[a] for a in range(axes)], list(begin)
    out = (
        [int(str(value)) for value in shape][-axes:]
        if isinstance(shape, Sequence)
        else [size[a] * stride[a] for a in range(axes)]
    )
    total = [max(full[a] - out[a], 0) for a in range(axes)]
    return out, [
        total[a] // 2 if mode == "SAME_UPPER" else total[a] - total[a] // 2 for a in range(axes)
    ]


def _gemm(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    array: Multiplier,
    bias_inside: bool,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    stored = node.operands[0].slot
    x = _required(node, inputs[1 - stored])
    transposed = bool(number(node.attributes, "transB" if stored == 0 else "transA", 0))
    rows_last = x.T if transposed != (stored == 0) else x
    vectors = np.ascontiguousarray(rows_last, np.float32)
    y = array.vectors(vectors, first_vector=numbering.first(len(vectors)))
    y = y.T if stored == 0 else y
    bias = inputs[2] if len(inputs) > 2 and not bias_inside else None
    if bias is not None:
        beta = np.float32(float(str(node.attributes.get("beta", 1.0))))
        y = y + bias * beta
    return np.ascontiguousarray(y, np.float32)


def _matmul(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    array: Multiplier,
    _bias: bool,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    operand = node.operands[0]
    x, shape = _required(node, inputs[1 - operand.slot]), operand.index.shape
    if operand.slot == 0:  # W x = (x' W')'
        shape = (*shape[:-2], shape[-1], shape[-2]) if len(shape) > 1 else shape
        x = np.swapaxes(x, -1, -2) if x.ndim > 1 else x
        y = _right_product(x, shape, array, numbering)
        return np.ascontiguousarray(np.swapaxes(y, -1, -2) if x.ndim > 1 and len(shape) > 1 else y)
    return np.ascontiguousarray(_right_product(x, shape, array, numbering))


def _right_product(
    x: Shaped[np.ndarray, "..."],
    shape: tuple[int, ...],
    array: Multiplier,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    """Return x times a stored weight, as numpy.matmul does.

    The last two axes of the weight's shape are rows and columns.
    """
    lead, rows, cols = (
        shape[:-2],
        shape[-2] if len(shape) > 1 else shape[0],
        shape[-1] if len(shape) > 1 else 1,
    )
    matrix = x if x.ndim > 1 else x[None]
    batch = np.broadcast_shapes(matrix.shape[:-2], lead)
    groups = math.prod(lead)
    if groups == 1:
        vectors = np.ascontiguousarray(matrix, np.float32).reshape(-1, rows)
        y = array.vectors(vectors, first_vector=numbering.first(len(vectors))).reshape(
            *matrix.shape[:-1], cols
        )
        y = np.broadcast_to(y, (*batch, matrix.shape[-2], cols))
    else:
        y = _grouped_product(matrix, lead, batch, rows, cols, array, numbering)
    if x.ndim == 1:
        y = y[..., 0, :]
    return y[..., 0] if len(shape) == 1 else y


def _grouped_product(
    matrix: Shaped[np.ndarray, "*batch lines rows"],
    lead: tuple[int, ...],
    batch: tuple[int, ...],
    rows: int,
    cols: int,
    array: Multiplier,
    numbering: _Numbering,
) -> Float32[np.ndarray, "..."]:
    """Return the product with a stack of weights.

    Every vector is given to all matrices that it meets, axes of the stack behind all others.
    """
    lines = matrix.shape[-2]
    full = np.broadcast_to(matrix, (*batch, lines, rows))
    padded = (1,) * (len(batch) - len(lead)) + lead
    stacked = [axis for axis, size in enumerate(padded) if size > 1]
    free = [axis for axis in range(len(batch)) if axis not in stacked]
    order = [*free, len(batch), *stacked, len(batch) + 1]
    vectors = np.ascontiguousarray(full.transpose(order), np.float32).reshape(
        -1, math.prod(lead) * rows
    )
    y = array.vectors(vectors, first_vector=numbering.first(len(vectors)))
    y = y.reshape(*(batch[axis] for axis in free), lines, *(batch[axis] for axis in stacked), cols)
    return y.transpose(np.argsort(order))


def _recurrent(
    node: CrossbarNode,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    arrays: Arrays,
    first_sample: int,
    batch: int,
) -> tuple[Float32[np.ndarray, "..."], ...]:
    roles = {operand.role: operand for operand in node.operands}
    numbering = _Numbering(first_sample, batch)
    return run_cell(
        node.op,
        node.attributes,
        inputs,
        input_product=_stepwise(node, "W", arrays, numbering),
        state_product=_stepwise(node, "R", arrays, numbering),
        hidden_size=roles["R"].index.shape[2],
        num_directions=roles["R"].index.shape[0],
    )


def _stepwise(
    node: CrossbarNode, role: str, arrays: Arrays, numbering: _Numbering
) -> Callable[[int, Float32[np.ndarray, "vectors inputs"]], Float32[np.ndarray, "vectors gates"]]:
    """Return the product of a recurrent weight; every call numbers its vectors anew."""
    calls: dict[int, int] = {}

    def product(
        direction: int, x: Float32[np.ndarray, "vectors inputs"]
    ) -> Float32[np.ndarray, "vectors gates"]:
        calls[direction] = calls.get(direction, -1) + 1
        first = numbering.first(len(x)) + (calls[direction] << _STEP)
        return arrays[f"{node.name}/{role}/{direction}"].vectors(
            np.ascontiguousarray(x, np.float32), first_vector=first
        )

    return product


def _required(
    node: CrossbarNode, value: Shaped[np.ndarray, "*shape"] | None
) -> Shaped[np.ndarray, "*shape"]:
    assert value is not None, node.name
    return value


def _ints(node: CrossbarNode, name: str, count: int, default: int = 1) -> list[int]:
    value = node.attributes.get(name)
    return (
        [int(str(item)) for item in value]
        if isinstance(value, Sequence) and len(value) > 0
        else [default] * count
    )


def _text(node: CrossbarNode, name: str) -> str:
    value = node.attributes.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _pads(node: CrossbarNode, axes: int) -> tuple[list[int], list[int]]:
    pads = _ints(node, "pads", 2 * axes, 0)
    return pads[:axes], pads[axes:]


def _three(values: Sequence[int], missing: int) -> tuple[int, int, int]:
    """Return the values of the spatial axes with missing outer axes filled in."""
    filled = [missing] * (3 - len(values)) + [int(value) for value in values]
    return filled[0], filled[1], filled[2]
