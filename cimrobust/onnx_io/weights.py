"""Finding the weights of a network.

Which node multiplies by which initializers, and folding weights that are computed from constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.onnx_io.fold import Constants, replace_by_initializer
from cimrobust.onnx_io.functions import rename_reads
from cimrobust.onnx_io.layouts import Slot, slots_of, uses_all_slots
from cimrobust.onnx_io.shapes import TensorType, infer_types
from cimrobust.onnx_io.tensors import decode, is_float
from cimrobust.onnx_io.views import (
    STORED_TYPES,
    TYPE_OPS,
    Trace,
    data_inputs,
    is_view,
    trace,
)
from cimrobust.onnx_io.walk import all_graphs, all_nodes, opset_versions

if TYPE_CHECKING:
    from cimrobust.array_shapes import Bool, Shaped

_NORMALISATIONS = frozenset(
    {"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"}
)
_NO_ARRAYS: Mapping[str, Shaped[np.ndarray, "..."]] = MappingProxyType({})


@dataclass(frozen=True)
class WeightUse:
    """A node that multiplies by initializers.

    Attributes:
        node: The node.
        slot: The input the weight arrives at.
        trace: Where its elements come from.
    """

    node: onnx.NodeProto
    slot: Slot
    trace: Trace

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight at the node."""
        return self.trace.shape


class Weights:
    """The constants of a normalised graph and the nodes that multiply by them."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        opsets: Mapping[str, int],
        types: Mapping[str, TensorType],
        *,
        arrays: Mapping[str, Shaped[np.ndarray, "..."]] = _NO_ARRAYS,
    ) -> None:
        """Look through a graph.

        Args:
            graph: The graph, its nodes sorted.
            opsets: Opset version per domain.
            types: What inference found.
            arrays: Values of initializers, where they are at hand.
        """
        self.graph = graph
        self.opsets = opsets
        self.constants = Constants(graph, opsets, types)
        self._arrays = arrays

    def array(self, tensor: onnx.TensorProto) -> Shaped[np.ndarray, "..."]:
        """Return the values of an initializer, read-only; no copy of those at hand."""
        found = self._arrays.get(tensor.name)
        return decode(tensor) if found is None else found

    def weight_slots(self) -> Iterator[tuple[onnx.NodeProto, Slot]]:
        """Yield the inputs of all nodes, bodies included, that hold a constant weight."""
        for node in all_nodes(self.graph):
            if self.constants.is_constant(node.output[0]):
                continue  # a product of constants, part of how a weight is computed
            constant = [slot for slot in slots_of(node) if self._is_constant(node, slot.index)]
            for slot in constant if uses_all_slots(node) else constant[:1]:
                yield node, slot

    def _is_constant(self, node: onnx.NodeProto, index: int) -> bool:
        return (
            index < len(node.input)
            and node.input[index] != ""
            and self.constants.is_constant(node.input[index])
        )

    def uses(self) -> list[WeightUse]:
        """Return all nodes that multiply by views of initializers, in graph order."""
        uses: list[WeightUse] = []
        for node, slot in self.weight_slots():
            traced = trace(node.input[slot.index], self.constants, self.opsets)
            if traced is not None:
                uses.append(WeightUse(node, slot, traced))
        return uses


def weights_of(model: onnx.ModelProto) -> Weights:
    """Return the weights of a normalised model."""
    return Weights(model.graph, opset_versions(model), infer_types(model, strict=False))


def fold_computed_weights(
    graph: onnx.GraphProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]
) -> list[str]:
    """Make weights that constants are computed to initializers of their own, in place.

    Views of one initializer stay.

    Returns:
        One note for each tensor folded.
    """
    notes = _fold_fake_quantisers(graph, Weights(graph, opsets, types))
    weights = Weights(graph, opsets, types)
    targets: dict[str, None] = {}
    for node, slot in weights.weight_slots():
        targets.update(dict.fromkeys(_computed(node.input[slot.index], weights.constants)))
    notes += _fold_targets(graph, weights.constants, list(targets))
    weights = Weights(graph, opsets, types)
    return notes + _fold_targets(graph, weights.constants, _partly_read(weights))


def _computed(name: str, constants: Constants) -> list[str]:
    """Return the tensors nearest to a weight that arithmetic makes."""
    node = constants.maker(name)
    if node is None:
        return []
    if is_view(node) and not (
        node.op_type in TYPE_OPS and _is_of_other_type(node.input[0], constants)
    ):
        return [found for source in data_inputs(node) for found in _computed(source, constants)]
    return [name]


def _is_of_other_type(name: str, constants: Constants) -> bool:
    """Tell whether a view begins at values of a type that no stored weight has, such as int32."""
    node = constants.maker(name)
    while node is not None and is_view(node):
        name = data_inputs(node)[0]
        node = constants.maker(name)
    tensor = constants.tensor(name)
    return tensor is not None and tensor.data_type not in STORED_TYPES


def _fold_targets(graph: onnx.GraphProto, constants: Constants, targets: list[str]) -> list[str]:
    """Make tensors that constants compute initializers, in place.

    Those computed in the same way from the same constants become one.
    """
    notes: list[str] = []
    first: dict[int, str] = {}
    renamed: dict[str, str] = {}
    recipes = _Recipes(constants)
    outputs = {value.name for inner in all_graphs(graph) for value in inner.output}
    for name in targets:
        recipe = recipes.number(name)
        if recipe in first and name not in outputs:
            renamed[name] = first[recipe]
            notes.append(
                f"tensor '{name}' is computed from constants as '{first[recipe]}' is, so both are"
                " one weight"
            )
            continue
        value = constants.value(name)
        if value is None:
            continue
        first.setdefault(recipe, name)
        node = constants.maker(name)
        assert node is not None
        replace_by_initializer(graph, name, value)
        notes.append(
            f"tensor '{name}', which {node.op_type} computes from constants, is stored as a weight"
            " of its own"
        )
    if renamed:
        rename_reads(graph, renamed)
    return notes


class _Recipes:
    """Numbers that are equal for tensors that the same operators make of the same constants."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._numbers: dict[tuple[object, ...], int] = {}
        self._known: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a constant tensor."""
        pending = [name]
        while pending:
            current = pending[-1]
            node = self._constants.maker(current)
            missing = (
                []
                if node is None
                else [source for source in node.input if source and source not in self._known]
            )
            if missing and current not in self._known:
                pending += missing
                continue
            pending.pop()
            self._known.setdefault(current, self._number_of(current, node))
        return self._known[name]

    def _number_of(self, name: str, node: onnx.NodeProto | None) -> int:
        if node is None:
            return self._numbers.setdefault(("leaf", name), len(self._numbers))
        inputs = tuple(self._known[source] if source else -1 for source in node.input)
        attributes = tuple(
            sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
        )
        key = (node.domain, node.op_type, list(node.output).index(name), inputs, attributes)
        return self._numbers.setdefault(key, len(self._numbers))


def _partly_read(weights: Weights) -> list[str]:
    """Return inputs of weight slots whose initializers they all together read only in part."""
    whole: set[str] = set()
    read: dict[str, Bool[np.ndarray, "_weights"]] = {}
    users: dict[str, list[str]] = {}
    for use in weights.uses():
        if use.trace.is_whole:
            whole.update(use.trace.leaves)
            continue
        start, index = 0, use.trace.index
        for leaf, size in zip(use.trace.leaves, use.trace.sizes, strict=True):
            inside = index[(index >= start) & (index < start + size)] - start
            read.setdefault(leaf, np.zeros(size, bool))[inside] = True
            users.setdefault(leaf, []).append(use.node.input[use.slot.index])
            start += size
    partly = {leaf for leaf, mask in read.items() if leaf not in whole and not mask.all()}
    return list(
        dict.fromkeys(
            name
            for leaf in partly
            for name in users[leaf]
            if weights.constants.maker(name) is not None
        )
    )


def _fold_fake_quantisers(graph: onnx.GraphProto, weights: Weights) -> list[str]:
    """Replace a float initializer and its QuantizeLinear by the integer levels.

    The QuantizeLinear is the one that reads it; the levels take the initializer's name.
    """
    readers: dict[str, int] = {value.name: 1 for value in graph.output}
    for node in all_nodes(graph):
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    notes: list[str] = []
    for node, slot in list(weights.weight_slots()):
        quantiser = _quantiser_behind(node.input[slot.index], weights.constants)
        if quantiser is None or readers[quantiser.input[0]] > 1:
            continue
        levels = weights.constants.value(quantiser.output[0])
        source = weights.constants.tensor(quantiser.input[0])
        if levels is None or source is None:
            continue
        old, new = quantiser.output[0], quantiser.input[0]
        readers[new] += 1
        graph.initializer.remove(source)
        replace_by_initializer(graph, old, levels)
        _rename(graph, old, new)
        notes.append(
            f"weight '{new}', which the file quantises at run time, is stored as the integer levels"
            " it is quantised to"
        )
    return notes


def _quantiser_behind(name: str, constants: Constants) -> onnx.NodeProto | None:
    """Return the QuantizeLinear that makes a weight's levels, if it is dequantised from them."""
    node = constants.maker(name)
    while node is not None and is_view(node) and node.op_type != "Concat":
        node = constants.maker(node.input[0])
    return node if node is not None and node.op_type == "QuantizeLinear" else None


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for inner in all_graphs(graph):
        for tensor in inner.initializer:
            if tensor.name == old:
                tensor.name = new
        for node in inner.node:
            node.input[:] = [new if name == old else name for name in node.input]


def weight_problems(
    graph: onnx.GraphProto, opsets: Mapping[str, int], types: Mapping[str, TensorType]
) -> list[str]:
    """Return stored weights and normalisation parameters that are infinite.

    NaN was refused before.
    """
    names = {leaf for use in Weights(graph, opsets, types).uses() for leaf in use.trace.leaves}
    names |= {
        name
        for node in all_nodes(graph)
        if node.op_type in _NORMALISATIONS
        for name in node.input[1:]
    }
    problems: list[str] = []
    for tensor in graph.initializer:
        if tensor.name not in names:
            continue
        values = decode(tensor)
        if not is_float(values):
            continue
        exact = values.astype(np.float32) if values.dtype.itemsize < 4 else values
        if not np.isfinite(exact).all():
            problems.append(f"weight '{tensor.name}' must be finite, holds infinity")
    return problems
