"""Walking over the nodes, bodies and tensors of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx

# Of operators that round activations: QuantizeLinear, QLinearConv, ConvInteger and their relatives.
_ROUNDING_MARKS = ("Quantize", "QLinear", "Integer", "QGemm")


class NameMaker:
    """Makes names that are not taken yet."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def take(self, wish: str) -> str:
        """Return `wish`, or `wish` with a number where it is taken, and take it."""
        name, number = wish, 1
        while name in self._taken or not name:
            name, number = f"{wish}.{number}", number + 1
        self._taken.add(name)
        return name

    def is_taken(self, name: str) -> bool:
        """Return whether a name was taken."""
        return name in self._taken


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the bodies a node carries in its attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all bodies inside it, outer ones first."""
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from all_graphs(body)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of all bodies inside it."""
    for inner in all_graphs(graph):
        yield from inner.node


def node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    """Yield the dense tensors in the attributes of a node, bodies not included."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue  # the caller of the function around it holds the value
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        elif attribute.type == onnx.AttributeProto.TENSORS:
            yield from attribute.tensors


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every dense tensor of a model.

    Initializers and attributes, bodies and functions included.
    """
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            yield from node_tensors(node)
    for function in model.functions:
        yield from (
            attribute.t
            for attribute in function.attribute_proto
            if attribute.type == onnx.AttributeProto.TENSOR
        )
        for node in function.node:
            yield from node_tensors(node)
            for body in subgraphs(node):
                for graph in all_graphs(body):
                    yield from graph.initializer
                    for inner in graph.node:
                        yield from node_tensors(inner)


def op_name(node: onnx.NodeProto) -> str:
    """Return the operator of a node, other domains as ``domain::Op``."""
    return (
        f"{node.domain}::{node.op_type}"
        if node.domain not in ("", "ai.onnx")
        else str(node.op_type)
    )


def describe(node: onnx.NodeProto) -> str:
    """Return a node as messages call it."""
    label = node.name or next((name for name in node.output if name), "")
    return f"node '{label}' ({op_name(node)})"


def round_activations(operators: Iterable[str]) -> bool:
    """Tell whether one of some operators rounds activations; DequantizeLinear does not."""
    return any(mark in operator for operator in operators for mark in _ROUNDING_MARKS)


def short_domain(domain: str) -> str:
    """Return an operator domain as the standard writes it: ``""`` for its own."""
    return "" if domain == "ai.onnx" else domain


def opset_versions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the imported version per domain, ``""`` for the standard one."""
    return {short_domain(entry.domain): int(entry.version) for entry in model.opset_import}


def defined_names(graph: onnx.GraphProto) -> list[str]:
    """Return the names a graph itself defines: inputs, initializers, outputs of its nodes."""
    names = [value.name for value in graph.input]
    names += [tensor.name for tensor in graph.initializer]
    names += [tensor.values.name for tensor in graph.sparse_initializer]
    names += [name for node in graph.node for name in node.output if name]
    return names


def outer_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names a body reads from the graphs around it."""
    read: set[str] = {value.name for value in graph.output}
    for node in graph.node:
        read |= read_names(node)
    return read - set(defined_names(graph))


def read_names(node: onnx.NodeProto) -> set[str]:
    """Return the names a node reads, those its bodies read from outside included."""
    names = {name for name in node.input if name}
    for body in subgraphs(node):
        names |= outer_names(body)
    return names


def node_depths(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the depth of every node of a sorted graph by name.

    The most nodes that data passes on its way there; constants have depth 0.

    A node of a body has the depth of the node that holds the body, and its depth inside it.
    """
    found: dict[str, tuple[int, ...]] = {}
    _measure(graph, (), {}, found)
    return found


def _measure(
    graph: onnx.GraphProto,
    outer: tuple[int, ...],
    known: Mapping[str, int],
    found: dict[str, tuple[int, ...]],
) -> None:
    depths = {**known, **{value.name: 1 for value in graph.input}}
    depths |= {tensor.name: 0 for tensor in graph.initializer}
    for node in graph.node:
        deepest = max((depths.get(name, 0) for name in read_names(node)), default=0)
        depth = deepest + 1 if deepest else 0
        found.setdefault(node.name, (*outer, depth))
        depths.update(dict.fromkeys(node.output, depth))
        for body in subgraphs(node):
            _measure(body, (*outer, depth), depths, found)


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Return the attributes of a node as Python values, strings decoded.

    Graphs and tensors are left out.
    """
    values: dict[str, object] = {}
    for attribute in node.attribute:
        if attribute.type in (
            onnx.AttributeProto.INT,
            onnx.AttributeProto.FLOAT,
            onnx.AttributeProto.INTS,
            onnx.AttributeProto.FLOATS,
        ):
            value = onnx.helper.get_attribute_value(attribute)
            values[attribute.name] = (
                list(value)
                if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)
                else value
            )
        elif attribute.type == onnx.AttributeProto.STRING:
            values[attribute.name] = attribute.s.decode("utf-8", "replace")
        elif attribute.type == onnx.AttributeProto.STRINGS:
            values[attribute.name] = [
                value.decode("utf-8", "replace") for value in attribute.strings
            ]
    return values


def int_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute."""
    for attribute in node.attribute:
        if attribute.name == name:
            return int(attribute.i)
    return default
