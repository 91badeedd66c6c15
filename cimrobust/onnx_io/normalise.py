"""Bringing a sound model into one form.

Sorted, uniquely named, constants as initializers, functions inlined.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping

import onnx

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.functions import Origin, inline_functions, join_constants
from cimrobust.onnx_io.tensors import constant_value, encode
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    all_nodes,
    defined_names,
    describe,
    read_names,
    subgraphs,
)

#: Operators whose outputs behind the first are optional.
_EXTRA_OUTPUTS = frozenset({"Dropout", "LayerNormalization", "MaxPool"})


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a sound model in the form that mapping and twin take.

    Functions are replaced by their nodes, Constant nodes by initializers; initializers are no
    inputs; names are unique over all bodies; nodes stand in topological order. `load_network` does
    the same and more, with checks, for a file.

    Raises:
        CimrobustError: A constant is sparse, or the graph has a cycle.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    origins: dict[str, Origin] = {}
    if copy.functions:
        copy, origins = inline_functions(copy)
    use_short_domain(copy)
    drop_initializer_inputs(copy)
    names = make_names_unique(copy.graph)
    problems = hoist_constants(copy.graph, names)
    join_constants(copy.graph, origins, names)
    problems += sort_nodes(copy.graph)
    if problems:
        raise CimrobustError(
            f"model must have a normal form, got {'; '.join(problems)}; write it without them"
        )
    return copy


def use_short_domain(model: onnx.ModelProto) -> None:
    """Write the standard operator domain as ``""`` everywhere, in place."""
    for entry in model.opset_import:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    for node in all_nodes(model.graph):
        if node.domain == "ai.onnx":
            node.domain = ""


def make_names_unique(graph: onnx.GraphProto) -> NameMaker:
    """Rename what bodies define so that a name means one tensor, and name every node, in place.

    Returns:
        Maker of further tensor names.
    """
    names = NameMaker(defined_names(graph))
    for node in graph.node:
        for body in subgraphs(node):
            _rename_body(body, {}, names)
    name_nodes(graph)
    return names


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node, also in bodies, a name of its own, in place.

    Nodes without name are called after their output.
    """
    names = NameMaker()
    for node in all_nodes(graph):
        node.name = names.take(
            node.name or next((name for name in node.output if name), node.op_type)
        )


def _rename_body(body: onnx.GraphProto, outer: Mapping[str, str], names: NameMaker) -> None:
    own = defined_names(body)
    mapping = {old: new for old, new in outer.items() if old not in own}
    for name in own:
        fresh = names.take(name)
        if fresh != name:
            mapping[name] = fresh
    for value in (*body.input, *body.output, *body.value_info):
        value.name = mapping.get(value.name, value.name)
    for tensor in body.initializer:
        tensor.name = mapping.get(tensor.name, tensor.name)
    for node in body.node:
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
        for inner in subgraphs(node):
            _rename_body(inner, mapping, names)


def drop_initializer_inputs(model: onnx.ModelProto) -> bool:
    """Take initializers off the list of graph inputs.

    IR versions before 4 are raised to 4, which allows it.

    Returns:
        Whether an input was taken off.
    """
    changed = False
    for graph in all_graphs(model.graph):
        initializers = {tensor.name for tensor in graph.initializer}
        kept = [value for value in graph.input if value.name not in initializers]
        if len(kept) != len(graph.input):
            changed = True
            kept = [_copy(value) for value in kept]
            del graph.input[:]
            graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)
    return changed


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def hoist_constants(graph: onnx.GraphProto, names: NameMaker) -> list[str]:
    """Turn Constant nodes and initializers of bodies into initializers of the graph, in place.

    Constant nodes of bodies too. Names must be unique over all bodies.

    Returns:
        Constants of a kind that is not covered.
    """
    problems: list[str] = []
    for inner in all_graphs(graph):
        outputs = {value.name for value in inner.output}
        kept: list[onnx.NodeProto] = []
        for node in inner.node:
            if node.op_type != "Constant" or node.domain:
                kept.append(node)
                continue
            tensor = _constant_tensor(node)
            if tensor is None:
                problems.append(f"{describe(node)} holds a sparse tensor or none at all")
                continue
            kept += _place_constant(graph, tensor, outputs, names)
        if inner is not graph:
            for tensor in inner.initializer:
                kept += _place_constant(graph, tensor, outputs, names)
            del inner.initializer[:]
        nodes = [_copy_node(node) for node in kept]
        del inner.node[:]
        inner.node.extend(nodes)
    return problems


def _copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _place_constant(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, outputs: set[str], names: NameMaker
) -> list[onnx.NodeProto]:
    """Add an initializer; where a constant is itself an output, an Identity keeps that name."""
    added = graph.initializer.add()
    added.CopyFrom(tensor)
    if tensor.name not in outputs:
        return []
    added.name = names.take(f"{tensor.name}.value")
    return [
        onnx.helper.make_node(
            "Identity", [added.name], [tensor.name], name=f"{tensor.name}.identity"
        )
    ]


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return what a Constant node holds, named as its output; None for sparse ones."""
    name = node.output[0] if node.output else ""
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.type == onnx.AttributeProto.TENSOR:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = name
            return tensor
        value = constant_value(attribute)
        if value is not None:
            return encode(value, name)
    return None


def sort_nodes(graph: onnx.GraphProto) -> list[str]:
    """Bring the nodes of a graph and of all bodies into topological order, in place.

    Where the order is free, the one of the file stays.

    Returns:
        Nodes that lie on a cycle or behind one.
    """
    problems: list[str] = []
    for inner in all_graphs(graph):
        nodes = list(inner.node)
        order = _topological_order(nodes)
        if len(order) < len(nodes):
            sorted_ones = set(order)
            stuck = [describe(node) for index, node in enumerate(nodes) if index not in sorted_ones]
            problems.append(
                "the graph has a cycle through"
                f" {', '.join(stuck[:4])}{' and more' if len(stuck) > 4 else ''}"
            )
        elif order != list(range(len(nodes))):
            copies = [_copy_node(nodes[index]) for index in order]
            del inner.node[:]
            inner.node.extend(copies)
    return problems


def is_sorted(graph: onnx.GraphProto) -> bool:
    """Return whether every node of a graph stands behind the nodes whose outputs it reads."""
    return _topological_order(list(graph.node)) == list(range(len(graph.node)))


def _topological_order(nodes: list[onnx.NodeProto]) -> list[int]:
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waiting_for = [{maker[name] for name in read_names(node) if name in maker} for node in nodes]
    if all(all(other < index for other in others) for index, others in enumerate(waiting_for)):
        return list(range(len(nodes)))
    readers: dict[int, list[int]] = defaultdict(list)
    for index, others in enumerate(waiting_for):
        for other in others:
            readers[other].append(index)
    ready = deque(index for index, others in enumerate(waiting_for) if not others)
    order: list[int] = []
    while ready:
        index = ready.popleft()
        order.append(index)
        for reader in readers[index]:
            waiting_for[reader].discard(index)
            if not waiting_for[reader]:
                ready.append(reader)
    return order


def separate_outputs(graph: onnx.GraphProto, names: NameMaker) -> None:
    """Put an Identity in front of outputs that are initializers or that nodes read, in place.

    What it reads gets an inner name. Rewriting what is inside then never changes what an output
    is.
    """
    read = {name for node in graph.node for name in read_names(node)} | {
        tensor.name for tensor in graph.initializer
    }
    for value in list(graph.output):
        if value.name not in read or value.name in {entry.name for entry in graph.input}:
            continue
        inner = names.take(f"{value.name}.value")
        for tensor in graph.initializer:
            tensor.name = inner if tensor.name == value.name else tensor.name
        for node in graph.node:
            node.output[:] = [inner if name == value.name else name for name in node.output]
        for node in all_nodes(graph):
            node.input[:] = [inner if name == value.name else name for name in node.input]
        for body in all_graphs(graph):
            for entry in body.output if body is not graph else ():
                entry.name = inner if entry.name == value.name else entry.name
        graph.node.append(
            onnx.helper.make_node("Identity", [inner], [value.name], name=f"{value.name}.identity")
        )


def drop_unread_outputs(graph: onnx.GraphProto) -> None:
    """Take outputs that nobody reads off nodes that may lack them, in place.

    Masks, indices and statistics that only training asks for.
    """
    for inner in all_graphs(graph):
        read = {name for node in inner.node for name in read_names(node)}
        read |= {value.name for value in inner.output}
        for node in inner.node:
            if node.domain or node.op_type not in _EXTRA_OUTPUTS:
                continue
            while len(node.output) > 1 and node.output[-1] not in read:
                node.output.pop()


def drop_outputs(graph: onnx.GraphProto, unwanted: set[str]) -> None:
    """Take outputs off the graph, in place."""
    kept = [_copy(value) for value in graph.output if value.name not in unwanted]
    del graph.output[:]
    graph.output.extend(kept)


def drop_dead_parts(graph: onnx.GraphProto, *, keep: Collection[str] = ()) -> list[str]:
    """Remove nodes that no output depends on and initializers that nothing reads, in place.

    Nodes must be sorted.

    Args:
        graph: The graph.
        keep: Initializers that stay also where nothing reads them.

    Returns:
        Names of the nodes removed.
    """
    wanted = {value.name for value in graph.output}
    alive: list[onnx.NodeProto] = []
    dead: list[str] = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            alive.append(_copy_node(node))
            wanted |= read_names(node)
        else:
            dead.append(node.name)
    if dead:
        del graph.node[:]
        graph.node.extend(reversed(alive))
    wanted.update(keep)
    unread = [index for index, tensor in enumerate(graph.initializer) if tensor.name not in wanted]
    for index in reversed(unread):
        del graph.initializer[index]
    if dead or unread:
        made = {name for node in all_nodes(graph) for name in node.output}
        stale = [index for index, value in enumerate(graph.value_info) if value.name not in made]
        for index in reversed(stale):
            del graph.value_info[index]
    return dead[::-1]
