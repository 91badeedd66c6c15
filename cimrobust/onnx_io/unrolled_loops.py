"""Loop and Scan written out, where the number of their passes is known.

For bounds, which know the operators of a body and not a body; no file is ever written from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.shapes import infer_types
from cimrobust.onnx_io.tensors import decode, encode
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    all_nodes,
    attributes,
    defined_names,
    int_attribute,
    op_name,
    opset_versions,
    subgraphs,
)

if TYPE_CHECKING:
    from cimrobust.onnx_io.shapes import TensorType

#: Most nodes that the bodies of a model may become.
MOST_NODES = 2000
# Versions from which on Unsqueeze takes its axes as an input, and Scan has no axis of samples.
_AXES_INPUT, _PLAIN_SCAN = 13, 9
_LOOPS = frozenset({"Loop", "Scan"})


def unrolled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose loops are their bodies one after the other, as far as that is known.

    Loops inside of bodies too. A Loop is written out where its number of passes is an initializer
    and its condition is true throughout; a Scan where the length of what it goes through is known.

    Args:
        model: Sorted, with names that are unique over all bodies and constants as initializers of
            the graph, as the loader makes them.

    Returns:
        The model itself where it has no such loop.
    """
    if not any(op_name(node) in _LOOPS for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    work = _Work(copy)
    while work.once():
        pass
    return copy if work.changed else model


@dataclass
class _Work:
    """The work on one model, in place.

    Attributes:
        model: The model.
        changed: Something was written out.
        made: Nodes made so far.
    """

    model: onnx.ModelProto
    changed: bool = False
    made: int = 0
    _kept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self._names = NameMaker(
            [name for inner in all_graphs(graph) for name in defined_names(inner)]
            + [node.name for node in all_nodes(graph)]
        )
        version = opset_versions(self.model).get("", 0)
        self._by_input = version >= _AXES_INPUT
        self._loops = _LOOPS if version >= _PLAIN_SCAN else _LOOPS - {"Scan"}

    def once(self) -> bool:
        """Write the loops of the graph out that can be; return whether there were any."""
        graph = self.model.graph
        types = infer_types(self.model, strict=False)
        stored = {tensor.name: tensor for tensor in graph.initializer}
        made: list[onnx.NodeProto] = []
        found = False
        for node in graph.node:
            parts = None
            if op_name(node) in self._loops and node.name not in self._kept:
                parts = self._written_out(node, stored, types)
                if parts is None:
                    self._kept.add(node.name)
                found |= parts is not None
            made += [node] if parts is None else parts
        if found:
            self.changed = True
            replace_nodes(graph, made)
        return found

    def _written_out(
        self,
        node: onnx.NodeProto,
        stored: Mapping[str, onnx.TensorProto],
        types: Mapping[str, TensorType],
    ) -> list[onnx.NodeProto] | None:
        """Return the nodes that a loop stands for, None where it stays."""
        (body,) = subgraphs(node)
        passes = (
            _passes_of_loop(node, body, stored)
            if node.op_type == "Loop"
            else _passes_of_scan(node, types)
        )
        if not passes or self.made + passes * len(body.node) > MOST_NODES:
            return None
        self.made += passes * len(body.node)
        unroller = _Loop if node.op_type == "Loop" else _Scan
        return unroller(node, body, self).nodes(passes)

    def constant(self, value: int | bool, wish: str) -> str:
        """Add an initializer of one number; return its name."""
        name = self._names.take(wish)
        kind = np.bool_ if isinstance(value, bool) else np.int64
        self.model.graph.initializer.append(encode(np.asarray(value, kind), name))
        return name

    def take(self, wish: str) -> str:
        """Return a name that nothing has yet."""
        return self._names.take(wish)

    def unsqueezed(self, name: str, axis: int) -> tuple[onnx.NodeProto, str]:
        """Return the node that inserts an axis, and the name of what it makes."""
        made = self.take(f"{name}.row")
        if not self._by_input:
            return helper.make_node("Unsqueeze", [name], [made], name=made, axes=[axis]), made
        axes = self.take(f"{name}.axis")
        self.model.graph.initializer.append(encode(np.asarray([axis], np.int64), axes))
        return helper.make_node("Unsqueeze", [name, axes], [made], name=made), made


def _passes_of_loop(
    node: onnx.NodeProto, body: onnx.GraphProto, stored: Mapping[str, onnx.TensorProto]
) -> int | None:
    """Return how often a Loop runs its body, None where its conditions are not known."""
    limit = stored.get(node.input[0])
    if limit is None:
        return None
    if node.input[1]:
        begins = stored.get(node.input[1])
        if begins is None or not decode(begins).all():
            return None
    makers = {name: inner for inner in body.node for name in inner.output}
    name = body.output[0].name
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    goes_on = stored.get(name)
    if name != body.input[1].name and (goes_on is None or not decode(goes_on).all()):
        return None
    return int(decode(limit).reshape(()))


def _passes_of_scan(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> int | None:
    """Return how often a Scan runs its body, None where that is not known."""
    count = int_attribute(node, "num_scan_inputs", 0)
    axes = _listed(node, "scan_input_axes", count)
    for name, axis in zip(node.input[len(node.input) - count :], axes, strict=True):
        kind = types.get(name)
        length = kind.shape[axis] if kind is not None and kind.shape else None
        if isinstance(length, int):
            return length
    return None


def _listed(node: onnx.NodeProto, name: str, count: int) -> list[int]:
    """Return a list of integers with one entry a slice, zeros where the node has none."""
    value = attributes(node).get(name)
    return [int(item) for item in value] if isinstance(value, list) and value else [0] * count


@dataclass
class _Unrolled(ABC):
    """One loop.

    Attributes:
        node: The node.
        body: Its body.
        work: What names and constants come from.
    """

    node: onnx.NodeProto
    body: onnx.GraphProto
    work: _Work

    def nodes(self, passes: int) -> list[onnx.NodeProto]:
        """Return what takes its place."""
        made: list[onnx.NodeProto] = []
        states, num_states = list(self.states()), self.num_states
        rows: list[list[str]] = [[] for _ in self.node.output[num_states:]]
        for index in range(passes):
            given, before = self.given(index, passes, states)
            made += before
            nodes, results = self._copy(given, index)
            made += nodes
            states = results[:num_states]
            for row, name in zip(rows, results[num_states:], strict=True):
                row.append(name)
        for name, output in zip(states, self.node.output, strict=False):
            if output:
                made.append(self._named("Identity", [name], output))
        for place, (row, output) in enumerate(
            zip(rows, self.node.output[num_states:], strict=True)
        ):
            if output:
                axis, back = self.output_axis(place)
                parts = [self.work.unsqueezed(name, axis) for name in (row[::-1] if back else row)]
                made += [node for node, _ in parts]
                made.append(self._named("Concat", [part for _, part in parts], output, axis=axis))
        return made

    @property
    @abstractmethod
    def num_states(self) -> int:
        """Number of values that go from pass to pass."""

    @abstractmethod
    def states(self) -> Iterator[str]:
        """Yield the names of the first states."""

    @abstractmethod
    def given(
        self, index: int, passes: int, states: list[str]
    ) -> tuple[list[str], list[onnx.NodeProto]]:
        """Return what the body's inputs are in one pass, and the nodes that make it."""

    @abstractmethod
    def output_axis(self, place: int) -> tuple[int, bool]:
        """Return the axis along which an output is put together, and whether backwards."""

    def _named(self, op: str, inputs: list[str], output: str, **values: Any) -> onnx.NodeProto:
        name = self.work.take(f"{output}.{op}")
        return helper.make_node(op, inputs, [output], name=name, **values)

    def _copy(self, given: list[str], index: int) -> tuple[list[onnx.NodeProto], list[str]]:
        """Return the nodes of one pass and the names of the body's outputs."""
        names = {value.name: name for value, name in zip(self.body.input, given, strict=True)}
        made: list[onnx.NodeProto] = []
        for node in self.body.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = self.work.take(f"{node.name}.{index}")
            self._rename(copy, names, index)
            made.append(copy)
        results = [names.get(value.name, value.name) for value in self.body.output]
        return made, results

    def _rename(self, node: onnx.NodeProto, names: dict[str, str], index: int) -> None:
        """Give what a node reads and makes the names of one pass, bodies inside included."""
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in subgraphs(node):
            inner = dict(names)
            for value in body.input:
                inner[value.name] = self.work.take(f"{value.name}.{index}")
                value.name = inner[value.name]
            for nested in body.node:
                nested.name = self.work.take(f"{nested.name}.{index}")
                self._rename(nested, inner, index)
            for value in body.output:
                value.name = inner.get(value.name, value.name)
            del body.value_info[:]
        for place, name in enumerate(node.output):
            if name:
                names[name] = self.work.take(f"{name}.{index}")
                node.output[place] = names[name]


class _Loop(_Unrolled):
    """A Loop."""

    @property
    def num_states(self) -> int:
        """As in `_Unrolled`."""
        return len(self.node.input) - 2

    def states(self) -> Iterator[str]:
        """As in `_Unrolled`."""
        yield from self.node.input[2:]

    def given(
        self, index: int, passes: int, states: list[str]
    ) -> tuple[list[str], list[onnx.NodeProto]]:
        """As in `_Unrolled`."""
        number = self.work.constant(index, f"{self.node.name}.pass")
        goes_on = self.work.constant(True, f"{self.node.name}.goes_on")
        return [number, goes_on, *states], []

    def output_axis(self, place: int) -> tuple[int, bool]:
        """As in `_Unrolled`."""
        return 0, False

    def _copy(self, given: list[str], index: int) -> tuple[list[onnx.NodeProto], list[str]]:
        nodes, results = super()._copy(given, index)
        return nodes, results[1:]


class _Scan(_Unrolled):
    """A Scan of version 9 and on."""

    @property
    def num_states(self) -> int:
        """As in `_Unrolled`."""
        return len(self.node.input) - int_attribute(self.node, "num_scan_inputs", 0)

    def states(self) -> Iterator[str]:
        """As in `_Unrolled`."""
        yield from self.node.input[: self.num_states]

    def given(
        self, index: int, passes: int, states: list[str]
    ) -> tuple[list[str], list[onnx.NodeProto]]:
        """As in `_Unrolled`."""
        scanned = self.node.input[self.num_states :]
        axes = _listed(self.node, "scan_input_axes", len(scanned))
        back = _listed(self.node, "scan_input_directions", len(scanned))
        nodes, names = [], []
        for name, axis, backwards in zip(scanned, axes, back, strict=True):
            place = self.work.constant(passes - 1 - index if backwards else index, f"{name}.place")
            names.append(self.work.take(f"{name}.{index}"))
            nodes.append(self._named("Gather", [name, place], names[-1], axis=axis))
        return [*states, *names], nodes

    def output_axis(self, place: int) -> tuple[int, bool]:
        """As in `_Unrolled`."""
        count = len(self.node.output) - self.num_states
        axes = _listed(self.node, "scan_output_axes", count)
        back = _listed(self.node, "scan_output_directions", count)
        return axes[place], bool(back[place])
