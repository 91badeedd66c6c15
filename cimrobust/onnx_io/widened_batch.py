"""A batch axis of fixed size made symbolic.

Widening compares shape inference at the file's batch size with inference at a multiple of it. Every
node whose constants tie the network to the file's size shows up as a contradiction, and is
rewritten; a reshape must keep the batch axis at the same place of the memory order. Whether the
result computes the same is proved by running both, elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.shapes import TensorType, infer_types, read_type
from cimrobust.onnx_io.tensors import decode, encode
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    defined_names,
    int_attribute,
    subgraphs,
)

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

BATCH_SYMBOL = "batch"

#: The batch is made this many times larger: a prime that is no usual size of an axis.
_FACTOR = 8191

_MAX_ROUNDS = 400


def widen_batch(
    model: onnx.ModelProto, batch_size: int | None
) -> tuple[onnx.ModelProto, tuple[str, ...]] | None:
    """Return a copy of the model with a symbolic batch axis, and notes; None if it cannot be done.

    Args:
        model: Normalised model; its nodes are sorted.
        batch_size: What its inputs have on their first axis.
    """
    if not batch_size or coupling_operators(model):
        return None
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    inputs = [value for value in wide.graph.input if _first_dim(value) == batch_size]
    before = infer_types(model, strict=False)
    for value in inputs:
        value.type.tensor_type.shape.dim[0].dim_value = batch_size * _FACTOR
    declared = {
        value.name: kind for value in wide.graph.output if (kind := read_type(value)) is not None
    }
    for value in wide.graph.output:
        value.type.tensor_type.ClearField("shape")
    editor = _Editor(
        wide,
        before,
        batch_size,
        NameMaker(name for graph in all_graphs(wide.graph) for name in defined_names(graph)),
    )
    try:
        if not editor.run():
            return None
    except ValueError:  # inference gives up on the larger batch
        return None
    for value in inputs:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH_SYMBOL
    _declare_outputs(wide, declared, batch_size)
    return wide, tuple(editor.notes)


def _first_dim(value: onnx.ValueInfoProto) -> int | str | None:
    kind = read_type(value)
    return kind.shape[0] if kind is not None and kind.shape else None


def _declare_outputs(
    wide: onnx.ModelProto, declared: Mapping[str, TensorType], batch_size: int
) -> None:
    """Give the outputs their shapes with the batch axis as a symbol.

    `declared` is what the file says of them.
    """
    after = infer_types(wide, strict=False)
    for value in wide.graph.output:
        stated, inferred = declared[value.name], after.get(value.name)
        shape = inferred.shape if inferred is not None else None
        if shape is None and stated.shape is not None:
            shape = (
                (None if stated.shape[:1] == (batch_size,) else stated.shape[0], *stated.shape[1:])
                if stated.shape
                else ()
            )
        if shape and not isinstance(shape[0], int):
            shape = (BATCH_SYMBOL, *shape[1:])
        value.CopyFrom(
            onnx.helper.make_tensor_value_info(
                value.name, stated.elem_type, None if shape is None else list(shape)
            )
        )


@dataclass(frozen=True)
class _Sizes:
    """Shape of a tensor at the file's batch size and at the multiple of it."""

    old: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def axis(self) -> int | None:
        """The one axis that grew with the batch, None if it is not exactly one."""
        grown = [axis for axis, (a, b) in enumerate(zip(self.old, self.new, strict=True)) if a != b]
        return (
            grown[0]
            if len(grown) == 1 and self.new[grown[0]] == self.old[grown[0]] * _FACTOR
            else None
        )


class _Editor:
    """Rewrites nodes of one model until inference at the larger batch has no contradiction left."""

    def __init__(
        self,
        model: onnx.ModelProto,
        before: Mapping[str, TensorType],
        batch_size: int,
        names: NameMaker,
    ) -> None:
        self.model = model
        self.before = before
        self.batch_size = batch_size
        self.names = names
        self.notes: list[str] = []

    def run(self) -> bool:
        """Return whether all outputs grow along their first axis in the end."""
        for _ in range(_MAX_ROUNDS):
            self.after = infer_types(self.model, strict=False)
            self._outer_sizes()
            self.constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
            if not self._edit_one():
                break
        try:
            infer_types(self.model, strict=True)
        except ValueError:
            return False
        return all(self._grows_first(value.name) for value in self.model.graph.output)

    def _grows_first(self, name: str) -> bool:
        sizes = self._sizes(name)
        return sizes is None or sizes.axis == 0 or sizes.old == sizes.new

    def _sizes(self, name: str) -> _Sizes | None:
        """Return the two shapes of a tensor, None where one is not known or ranks differ."""
        old, new = self.before.get(name), self.after.get(name)
        a, b = (kind.static_shape if kind else None for kind in (old, new))
        return _Sizes(a, b) if a is not None and b is not None and len(a) == len(b) else None

    def _edit_one(self) -> bool:
        """Rewrite the first node that ties the network to its batch size.

        Return whether there was one.
        """
        edits = {
            "Reshape": self._edit_reshape,
            "Expand": self._edit_expand,
            "Concat": self._edit_concat,
            "QLinearConcat": self._edit_concat,
        }
        recurrent = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
        for node in self.model.graph.node:
            if any(True for _ in subgraphs(node)) or (
                node.domain and node.op_type != "QLinearConcat"
            ):
                continue
            if node.op_type in recurrent and self._edit_states(node, recurrent[node.op_type]):
                return True
            edit = edits.get(node.op_type)
            if edit is not None and edit(node):
                return True
        return False

    def _edit_reshape(self, node: onnx.NodeProto) -> bool:
        """Let the entry of a constant target shape that counts samples be -1."""
        sizes, target = self._sizes(node.input[0]), self.constants.get(node.input[1])
        old = self.before[node.output[0]].static_shape if node.output[0] in self.before else None
        if sizes is None or sizes.axis is None or target is None or old is None:
            return False
        axis = _axis_at(old, self._stride(node.input[0], sizes), self.batch_size)
        result = self._sizes(node.output[0])
        if axis is None or (result is not None and result.axis == axis):
            return False
        shape = [-1 if index == axis else dim for index, dim in enumerate(old)]
        if shape == decode(target).tolist():
            return False
        node.input[1] = self._constant(np.asarray(shape, np.int64), f"{node.output[0]}.shape")
        kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)
        self.notes.append(
            f"{node.op_type} '{node.name}' takes its number of samples from its input"
        )
        return True

    def _stride(self, name: str, sizes: _Sizes) -> int:
        """Return how many blocks of samples lie in memory.

        The product of all sizes outside the batch.
        """
        return math.prod(sizes.old[: sizes.axis]) * self.outer.get(name, 1)

    def _outer_sizes(self) -> dict[str, int]:
        """Return, by tensor, the product of the axes that its batch axis is merged with.

        Those axes are outside of the batch axis.
        """
        outer: dict[str, int] = {}
        self.outer = outer
        for node in self.model.graph.node:
            sources = [
                (name, sizes)
                for name in node.input
                if name and (sizes := self._sizes(name)) is not None and sizes.axis is not None
            ]
            for name in node.output:
                result = self._sizes(name) if name else None
                if result is None or result.axis is None or not sources:
                    continue
                source, sizes = sources[0]
                if node.op_type in ("Reshape", "Flatten"):
                    outer[name] = max(
                        1, self._stride(source, sizes) // math.prod(result.old[: result.axis])
                    )
                elif sizes.axis is not None and sizes.old[sizes.axis] == result.old[result.axis]:
                    outer[name] = outer.get(source, 1)
        return outer

    def _edit_expand(self, node: onnx.NodeProto) -> bool:
        """Let a constant target shape leave the axis alone that counts samples."""
        sizes, target = self._sizes(node.input[0]), self.constants.get(node.input[1])
        if sizes is None or sizes.axis is None or target is None:
            return False
        shape = decode(target).tolist()
        position = sizes.axis + len(shape) - len(sizes.old)
        if position < 0 or shape[position] == 1:
            return False
        shape[position] = 1
        node.input[1] = self._constant(np.asarray(shape, np.int64), f"{node.output[0]}.shape")
        self.notes.append(
            f"{node.op_type} '{node.name}' takes its number of samples from its input"
        )
        return True

    def _edit_concat(self, node: onnx.NodeProto) -> bool:
        """Repeat constants that are joined to data, one copy a sample."""
        first, step = (
            (2, 3) if node.domain else (0, 1)
        )  # QLinearConcat: scale, zero point, then tensor, scale, zero point of each
        sizes = {
            index: self._sizes(node.input[index]) for index in range(first, len(node.input), step)
        }
        grown = [
            (index, size.axis)
            for index, size in sizes.items()
            if size is not None and size.axis is not None
        ]
        still = [
            index for index, size in sizes.items() if size is not None and size.old == size.new
        ]
        if not grown or not still or len(grown) + len(still) < len(sizes):
            return False
        like, axis = grown[0]
        join = int_attribute(node, "axis", 0) % len(self._rank_shape(node.input[like]))
        if (
            join == axis
            or self.batch_size != 1
            or any(self._rank_shape(node.input[index])[axis] != 1 for index in still)
        ):
            return False
        self._repeat(node, still, axis, node.input[like], axis)
        return True

    def _rank_shape(self, name: str) -> tuple[int, ...]:
        return self.before[name].static_shape or ()

    def _edit_states(self, node: onnx.NodeProto, positions: tuple[int, ...]) -> bool:
        """Repeat constant initial states of a recurrent layer, one copy a sample."""
        sizes = self._sizes(node.input[0])
        batch_axis = (
            0
            if any(attribute.name == "layout" and attribute.i == 1 for attribute in node.attribute)
            else 1
        )
        if sizes is None or sizes.axis != batch_axis or self.batch_size != 1:
            return False
        still = []
        for index in positions:
            state = (
                self._sizes(node.input[index])
                if index < len(node.input) and node.input[index]
                else None
            )
            if state is not None and state.old == state.new and state.old[batch_axis] == 1:
                still.append(index)
        if not still:
            return False
        self._repeat(node, still, batch_axis, node.input[0], batch_axis)
        return True

    def _repeat(
        self, node: onnx.NodeProto, positions: list[int], axis: int, like: str, like_axis: int
    ) -> None:
        """Put Expand nodes before inputs of a node.

        `axis` gets as many entries as `like` has on `like_axis`.
        """
        graph = self.model.graph
        shape_of = self.names.take(f"{like}.shape")
        count = self.names.take(f"{like}.samples")
        where = self._constant(np.asarray([like_axis], np.int64), f"{like}.axis")
        nodes = [
            onnx.helper.make_node("Shape", [like], [shape_of], name=shape_of),
            onnx.helper.make_node("Gather", [shape_of, where], [count], name=count, axis=0),
        ]
        for position in positions:
            name = node.input[position]
            rank = len(self._rank_shape(name))
            parts = [
                count if index == axis else self._constant(np.asarray([1], np.int64), f"{name}.one")
                for index in range(rank)
            ]
            target, output = self.names.take(f"{name}.target"), self.names.take(f"{name}.samples")
            nodes.append(onnx.helper.make_node("Concat", parts, [target], name=target, axis=0))
            nodes.append(onnx.helper.make_node("Expand", [name, target], [output], name=output))
            node.input[position] = output
        label = node.name
        at = next(index for index, other in enumerate(graph.node) if other.name == label)
        for offset, new in enumerate(nodes):
            graph.node.insert(at + offset, new)
        self.notes.append(f"constant inputs of {node.op_type} '{label}' are repeated once a sample")

    def _constant(self, values: Shaped[np.ndarray, "..."], wish: str) -> str:
        name = self.names.take(wish)
        self.model.graph.initializer.append(encode(values, name))
        return name


def _axis_at(shape: tuple[int, ...], stride: int, batch_size: int) -> int | None:
    """Return the axis of a shape that holds the batch.

    It is given that `stride` blocks of samples lie in memory.

    An axis of exactly the batch size is the best; in a matrix the batch joins the rows; then an
    axis that begins with the batch; then one in which it lies inside. With a batch of one several
    may fit, and running both models decides.
    """
    starts = [math.prod(shape[:axis]) for axis in range(len(shape))]
    fits = [
        axis
        for axis, start in enumerate(starts)
        if start > 0
        and shape[axis] > 0
        and stride % start == 0
        and (start * shape[axis]) % (stride * batch_size) == 0
    ]
    first = [axis for axis in fits if starts[axis] == stride]
    exact = [axis for axis in first if shape[axis] == batch_size]
    rows = [axis for axis in fits if axis == 0 and len(shape) == 2]
    best = exact or rows or first or fits
    return best[0] if best else None
