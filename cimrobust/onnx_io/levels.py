"""Integer weights.

The levels, scales and zero points a file states for every element of an initializer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.views import FLOAT_TYPES, LEVEL_TYPES, Trace
from cimrobust.onnx_io.walk import int_attribute

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Int32, Int64, Shaped
    from cimrobust.onnx_io.fold import Constants
    from cimrobust.onnx_io.weights import WeightUse


@dataclass(frozen=True)
class StoredValues:
    """What an initializer holds.

    Attributes:
        values: Weights, float32, dequantised, own shape.
        levels: Integers with the zero point subtracted, int32, own shape; None for float weights.
        scale_group: Index of the scale of every element, int32, own shape; None: one scale.
    """

    values: Float32[np.ndarray, "*weight"]
    levels: Int32[np.ndarray, "*weight"] | None
    scale_group: Int32[np.ndarray, "*weight"] | None


class ScaleMap:
    """Collects scale and zero point of every element of one initializer from all its uses."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._num_groups = 0
        self._seen: set[str] = set()

    # Three numbers an element, which weights that nothing dequantises never ask for.
    @cached_property
    def scale(self) -> Float32[np.ndarray, "weights"]:
        """Scale of every element, float32."""
        return np.ones(self._size, np.float32)

    @cached_property
    def zero_point(self) -> Int32[np.ndarray, "weights"]:
        """Zero point of every element, int32."""
        return np.zeros(self._size, np.int32)

    @cached_property
    def group(self) -> Int32[np.ndarray, "weights"]:
        """Number of the scale of every element, int32; -1 where no node has said one."""
        return np.full(self._size, -1, np.int32)

    def add(
        self,
        key: str,
        positions: Int64[np.ndarray, "some"],
        scale: Float32[np.ndarray, "some"],
        zero_point: Int32[np.ndarray, "some"],
        group: Int64[np.ndarray, "some"],
    ) -> None:
        """Add what one node says about the elements at `positions`.

        All arrays have one entry a position.

        Raises:
            ValueError: It contradicts what another node says.
        """
        if key in self._seen:
            return
        self._seen.add(key)
        num_groups = int(group.max(initial=0)) + 1
        known = self.group[positions] >= 0
        if known.any():
            same = (self.scale[positions] == scale) & (self.zero_point[positions] == zero_point)
            if not same[known].all():
                raise ValueError("nodes that share it dequantise it differently")
            positions, scale, zero_point, group = (
                part[~known] for part in (positions, scale, zero_point, group)
            )
        self.scale[positions], self.zero_point[positions] = scale, zero_point
        self.group[positions] = group + self._num_groups
        self._num_groups += num_groups

    def groups(self, shape: tuple[int, ...]) -> Int32[np.ndarray, "..."] | None:
        """Return the scale groups numbered from 0, None if there is one."""
        # Counted, not sorted: millions of elements have few scales.
        is_there = np.bincount(self.group + 1, minlength=self._num_groups + 1) > 0
        if is_there.sum() <= 1:
            return None
        numbers = np.cumsum(is_there, dtype=np.int32) - np.int32(1)
        return np.asarray(numbers[self.group + 1].reshape(shape))


def add_scales(scales: ScaleMap, leaf: str, use: WeightUse, constants: Constants) -> None:
    """Add what one use says about the scales of an initializer.

    Raises:
        ValueError: A scale is not constant, or contradicts another.
    """
    for item in use.trace.dequantisers:
        scale, zero = (_constant(item.node, position, constants) for position in (1, 2))
        axis, block = int_attribute(item.node, "axis", 1), int_attribute(item.node, "block_size", 0)
        _add(scales, item.node.name, leaf, (use.trace, item.index), (scale, zero, axis, block))
    slot = use.slot
    if slot.scale is not None or slot.zero_point is not None:
        scale, zero = (
            _constant(use.node, position, constants) for position in (slot.scale, slot.zero_point)
        )
        _add(
            scales,
            use.node.name,
            leaf,
            (use.trace, use.trace.index),
            (scale, zero, slot.channel_axis, 0),
        )


def _constant(
    node: onnx.NodeProto, position: int | None, constants: Constants
) -> Shaped[np.ndarray, "..."] | None:
    """Return a quantisation input, None if the node has none there.

    Raises:
        ValueError: It is not constant.
    """
    if position is None or position >= len(node.input) or not node.input[position]:
        return None
    value = constants.value(node.input[position])
    if value is None:
        raise ValueError(
            f"its scale or zero point '{node.input[position]}' is computed at run time"
        )
    return value


def _add(
    scales: ScaleMap,
    key: str,
    leaf: str,
    place: tuple[Trace, Int64[np.ndarray, "..."]],
    quantisation: tuple[
        Shaped[np.ndarray, "..."] | None, Shaped[np.ndarray, "..."] | None, int, int
    ],
) -> None:
    traced, index = place
    scale, zero, axis, block = quantisation
    start = sum(traced.sizes[: traced.leaves.index(leaf)])
    size = traced.sizes[traced.leaves.index(leaf)]
    scales_of = np.ones((), np.float32) if scale is None else scale
    zeros_of = np.zeros((), np.int32) if zero is None else zero
    longer = scales_of if scales_of.size >= zeros_of.size else zeros_of
    group = np.arange(longer.size).reshape(longer.shape)
    positions, places = first_reads(index, start, size)
    spread = [
        spread_along(part, index.shape, axis=axis, block=block).reshape(-1)[places]
        for part in (scales_of, zeros_of, group)
    ]
    scales.add(key, positions, spread[0].astype(np.float32), spread[1].astype(np.int32), spread[2])


def first_reads(
    index: Int64[np.ndarray, "..."], start: int, size: int
) -> tuple[Int64[np.ndarray, "some"], Int64[np.ndarray, "some"] | slice]:
    """Return which elements of an initializer a tensor holds, and where each stands first.

    Args:
        index: The element that stands in every place of the tensor.
        start: First element of the initializer.
        size: Number of its elements.

    Returns:
        Positions in the initializer, rising; and their places in the flat tensor.
    """
    flat = index.reshape(-1)
    if flat.size == size and np.array_equal(flat, np.arange(start, start + size)):
        return flat - start, slice(None)
    places = np.flatnonzero((flat >= start) & (flat < start + size))
    positions, first = np.unique(flat[places] - start, return_index=True)
    return positions, places[first]


def spread_along(
    values: Shaped[np.ndarray, "..."], shape: tuple[int, ...], *, axis: int, block: int
) -> Shaped[np.ndarray, "..."]:
    """Spread scales over a tensor.

    One for all, one an index of an axis, or one a block along an axis.

    Raises:
        ValueError: They do not fit.
    """
    if values.size == 1:
        return np.broadcast_to(values.reshape(()), shape)
    axis = axis % len(shape) if shape else 0
    if values.ndim == 1 and shape and values.size == shape[axis]:
        view = [1] * len(shape)
        view[axis] = values.size
        return np.broadcast_to(values.reshape(view), shape)
    if block > 0 and values.ndim == len(shape):
        repeated = values.repeat(block, axis=axis)
        return repeated[tuple(slice(0, size) for size in shape)]
    if values.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(values.shape, shape, strict=True)
    ):
        return np.broadcast_to(values, shape)
    raise ValueError(
        f"scales of shape {list(values.shape)} do not fit a weight of shape {list(shape)}"
    )


def stored_values(
    tensor: onnx.TensorProto, raw: Shaped[np.ndarray, "..."], scales: ScaleMap
) -> StoredValues:
    """Return the weights an initializer stands for; `raw` are its values in the file's type."""
    shape = tuple(tensor.dims)
    if tensor.data_type in FLOAT_TYPES:
        return StoredValues(np.ascontiguousarray(raw, np.float32), None, None)
    scale = scales.scale.reshape(shape)
    if tensor.data_type not in LEVEL_TYPES:
        return StoredValues(np.asarray(raw.astype(np.float32) * scale, np.float32), None, None)
    levels = raw.astype(np.int32) - scales.zero_point.reshape(shape)
    values = np.asarray(levels.astype(np.float32) * scale, np.float32)
    return StoredValues(values, np.asarray(levels, np.int32), scales.groups(shape))
