"""Follow a weight back to its initializers, through nodes that only move its elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.evaluate import evaluate_node

if TYPE_CHECKING:
    from cimrobust.array_shapes import Int64, Shaped
    from cimrobust.onnx_io.fold import Constants

#: Operators that move, repeat or leave out elements of their first input (Concat: of all), the
#: other inputs being constants.
MOVING_OPS = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)

#: Operators that change the type of the elements and leave them where they are.
TYPE_OPS = frozenset({"Cast", "CastLike", "DequantizeLinear"})

FLOAT_TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
)
LEVEL_TYPES = frozenset(
    {
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT4,
        TensorProto.UINT4,
        TensorProto.INT16,
        TensorProto.UINT16,
    }
)
FLOAT8_TYPES = frozenset(
    {
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT8E4M3FNUZ,
        TensorProto.FLOAT8E5M2,
        TensorProto.FLOAT8E5M2FNUZ,
    }
)

STORED_TYPES = FLOAT_TYPES | LEVEL_TYPES | FLOAT8_TYPES


@dataclass(frozen=True)
class Places:
    """Position of every element of a tensor in what it is a view of.

    Nearly all weights are whole initializers as they are; their positions are not held.

    Attributes:
        shape: Shape of the tensor.
        moved: The positions, int64, in that shape; None: 0, 1, 2, ... in order.
    """

    shape: tuple[int, ...]
    moved: Int64[np.ndarray, "..."] | None = None

    @property
    def index(self) -> Int64[np.ndarray, "..."]:
        """The positions, int64, in the shape of the tensor."""
        if self.moved is not None:
            return self.moved
        return np.arange(math.prod(self.shape), dtype=np.int64).reshape(self.shape)


@dataclass(frozen=True)
class Dequantiser:
    """A DequantizeLinear node on the way of a weight.

    Attributes:
        node: The node.
        places: What `Trace.places` is at its input.
    """

    node: onnx.NodeProto
    places: Places

    @property
    def index(self) -> Int64[np.ndarray, "..."]:
        """What `Trace.index` is at its input."""
        return self.places.index


@dataclass(frozen=True)
class Trace:
    """Where every element of a tensor comes from.

    Attributes:
        leaves: Initializers it is read from.
        places: Position of every element in the leaves flattened and laid one after the other.
        sizes: Number of elements of every leaf.
        nodes: Nodes between the leaves and the tensor, in order.
        dequantisers: Those of them that dequantise.
    """

    leaves: tuple[str, ...]
    places: Places
    sizes: tuple[int, ...]
    nodes: tuple[onnx.NodeProto, ...] = ()
    dequantisers: tuple[Dequantiser, ...] = ()

    @property
    def index(self) -> Int64[np.ndarray, "..."]:
        """Position of every element, int64, in the leaves flattened, in the tensor's shape."""
        return self.places.index

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.places.shape

    @property
    def is_whole(self) -> bool:
        """Whether the tensor is one initializer, every element in its place."""
        return self.places.moved is None and len(self.leaves) == 1


def is_view(node: onnx.NodeProto) -> bool:
    """Return whether a node only moves or retypes elements."""
    if node.domain == "com.microsoft" and node.op_type == "DequantizeLinear":
        return True
    if node.domain or node.op_type not in MOVING_OPS | TYPE_OPS:
        return False
    if node.op_type == "Cast":
        return any(
            attribute.name == "to" and attribute.i in FLOAT_TYPES for attribute in node.attribute
        )
    return True


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of a view node whose elements it moves."""
    return list(node.input) if node.op_type == "Concat" else [node.input[0]]


def trace(name: str, constants: Constants, opsets: Mapping[str, int]) -> Trace | None:
    """Return where the elements of a tensor come from.

    Return None if it is not a view of initializers of stored types.
    """
    tensor = constants.tensor(name)
    if tensor is not None:
        shape = tuple(tensor.dims)
        return (
            Trace((name,), Places(shape), (math.prod(shape),))
            if tensor.data_type in STORED_TYPES
            else None
        )
    node = constants.maker(name)
    if node is None or not is_view(node):
        return None
    sources = [trace(source, constants, opsets) for source in data_inputs(node)]
    found = [source for source in sources if source is not None]
    if len(found) < len(sources):
        return None
    merged, places = _merge(found)
    dequantisers = merged.dequantisers
    if node.op_type in TYPE_OPS:
        if node.op_type == "DequantizeLinear":
            dequantisers = (*dequantisers, Dequantiser(node, places[0]))
        moved: Places | None = places[0]
    else:
        moved = _move(node, name, places, constants, opsets)
    if moved is None:
        return None
    return Trace(merged.leaves, moved, merged.sizes, (*merged.nodes, node), dequantisers)


def _merge(sources: list[Trace]) -> tuple[Trace, list[Places]]:
    """Lay the leaves of several traces one after the other.

    Return the union and the places of every source in it.
    """
    leaves: dict[str, int] = {}
    for source in sources:
        leaves.update(zip(source.leaves, source.sizes, strict=True))
    starts = dict(zip(leaves, np.cumsum([0, *leaves.values()])[:-1].tolist(), strict=True))
    nodes = {node.name: node for source in sources for node in source.nodes}
    places, dequantisers = [], []
    for source in sources:
        shift = _shifter(source, starts)
        places.append(shift(source.places))
        dequantisers += [Dequantiser(item.node, shift(item.places)) for item in source.dequantisers]
    return (
        Trace(
            tuple(leaves),
            places[0],
            tuple(leaves.values()),
            tuple(nodes.values()),
            tuple(dequantisers),
        ),
        places,
    )


def _shifter(source: Trace, starts: Mapping[str, int]) -> Callable[[Places], Places]:
    """Return what moves places from the leaf order of one trace to given starts of the leaves."""
    bounds = np.cumsum(source.sizes)
    offsets = np.asarray([starts[leaf] for leaf in source.leaves]) - (
        bounds - np.asarray(source.sizes)
    )

    def shift(places: Places) -> Places:
        if not offsets.any():
            return places
        index = places.index
        return Places(places.shape, index + offsets[np.searchsorted(bounds, index, side="right")])

    return shift


def _move(
    node: onnx.NodeProto,
    name: str,
    sources: list[Places],
    constants: Constants,
    opsets: Mapping[str, int],
) -> Places | None:
    """Return what a node makes of places."""
    if node.op_type == "Identity":
        return sources[0]
    inputs: list[Shaped[np.ndarray, "..."] | None] = [places.index for places in sources]
    if node.op_type != "Concat":
        rest = [constants.value(source) if source else None for source in node.input[1:]]
        if any(
            source and value is None for source, value in zip(node.input[1:], rest, strict=True)
        ):
            return None
        inputs += rest
    try:
        moved = evaluate_node(node, inputs, opsets)[list(node.output).index(name)]
    except ValueError:
        return None
    return Places(tuple(moved.shape), moved)
