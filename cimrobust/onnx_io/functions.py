"""Functions that a model file brings along.

Which of them count, and constants of theirs as the one tensor that they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, defs, inliner

from cimrobust.onnx_io.builtin_operators import CONTRIB_OPERATORS
from cimrobust.onnx_io.large_models import is_large, large_initializers, without_data
from cimrobust.onnx_io.tensors import constant_value, encode, num_elements
from cimrobust.onnx_io.walk import NameMaker, all_graphs, all_nodes, all_tensors, subgraphs

#: Domains in which onnxruntime knows its own operators alone, whatever functions a file has.
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

#: Operators whose meaning changed while their inputs and attributes stayed.
_CHANGED = frozenset({"GroupNormalization"})

#: What marks a constant of a function while calls are replaced by nodes; no name of a file that is
#: read begins so.
_MARK = "cimrobust//constant//"


@dataclass(frozen=True)
class Origin:
    """A constant of a function.

    Attributes:
        function: Domain and name of the function.
        name: Name of the constant in it.
        is_weight: Whether it has the type and the rank of a weight.
        size: Its elements.
    """

    function: str
    name: str
    is_weight: bool
    size: int


def built_in_operators(model: onnx.ModelProto) -> list[str]:
    """Return the functions in whose place onnxruntime takes operators of its own, sorted.

    They are written ``domain::name``. ONNX would have the function count. A number that no runtime
    gives is of no use, so what onnxruntime does is done here too.
    """
    return sorted({_label(function) for function in model.functions if _is_built_in(function)})


def _is_built_in(function: onnx.FunctionProto) -> bool:
    if function.domain in _STANDARD_DOMAINS:
        return bool(defs.has(function.name, _short(function.domain)))
    return function.domain == "com.microsoft" and function.name in CONTRIB_OPERATORS


def drop_built_in(model: onnx.ModelProto) -> None:
    """Remove the functions in whose place onnxruntime takes operators of its own, in place."""
    kept = []
    for function in model.functions:
        if not _is_built_in(function):
            copy = onnx.FunctionProto()
            copy.CopyFrom(function)
            kept.append(copy)
    del model.functions[:]
    model.functions.extend(kept)


def foreign_functions(model: onnx.ModelProto) -> list[str]:
    """Return functions in domains of ONNX that are no operators there: no runtime calls them."""
    return [
        f"function '{_label(function)}' of the file is in an operator domain of ONNX, where"
        " onnxruntime calls no functions"
        for function in model.functions
        if function.domain in _STANDARD_DOMAINS and not _is_built_in(function)
    ]


def opset_differences(model: onnx.ModelProto) -> list[str]:
    """Return functions of another operator set than the model's, that means other operators.

    They are written for that set, and an operator of theirs is another one in the model's. ONNX
    would have the function's own set count, onnxruntime reads it by that of the model.
    """
    versions = {_short(entry.domain): int(entry.version) for entry in model.opset_import}
    problems: list[str] = []
    for function in model.functions:
        own = {_short(entry.domain): int(entry.version) for entry in function.opset_import}
        for node in _nodes_of(function):
            domain = _short(node.domain)
            here, there = own.get(domain, 0), versions.get(domain, own.get(domain, 0))
            if here != there and not _same_operator(node, here, there):
                problems.append(
                    f"function '{_label(function)}' is written for operator set {here} and the"
                    f" model for {there}, between which {node.op_type} changed: runtimes read it"
                    " differently"
                )
                break
    return problems


def _same_operator(node: onnx.NodeProto, first: int, second: int) -> bool:
    """Return whether two versions of an operator set mean the same by a node.

    What one has more than the other, the node does without.
    """
    domain = _short(node.domain)
    if domain not in ("", "ai.onnx.ml") or not defs.has(node.op_type, domain):
        return True
    try:
        old, new = (
            defs.get_schema(node.op_type, version, domain)
            for version in (min(first, second), max(first, second))
        )
    except defs.SchemaError:
        return False
    if old.since_version == new.since_version:
        return True
    added = {attribute.name for attribute in node.attribute} - set(old.attributes)
    kept = all(
        name in new.attributes and _default(old, name) == _default(new, name)
        for name in old.attributes
    )
    is_variadic = any(
        item.option == defs.OpSchema.FormalParameterOption.Variadic for item in old.inputs
    )
    return (
        kept
        and not added
        and (is_variadic or len(node.input) <= len(old.inputs))
        and node.op_type not in _CHANGED
    )


def _default(schema: defs.OpSchema, name: str) -> bytes:
    return bytes(schema.attributes[name].default_value.SerializeToString())


def _short(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def repeated_functions(model: onnx.ModelProto) -> list[str]:
    """Return functions that the file defines more than once."""
    counts = Counter(
        (function.domain, function.name, function.overload) for function in model.functions
    )
    return [
        f"function '{domain}::{name}' is defined {count} times"
        for (domain, name, _), count in counts.items()
        if count > 1
    ]


def _label(function: onnx.FunctionProto) -> str:
    return f"{function.domain or 'ai.onnx'}::{function.name}"


def inline_functions(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Origin]]:
    """Return the model with every call of a function replaced by its nodes.

    Also the constants of functions, by the mark that their tensors have. Constants that a call
    hands over as an attribute have no mark.
    """
    origins = _mark_constants(model)
    versions = {_short(entry.domain): int(entry.version) for entry in model.opset_import}
    for function in model.functions:
        for entry in (
            function.opset_import
        ):  # see opset_differences; with another number it would stay a call
            entry.version = versions.get(_short(entry.domain), entry.version)
    _state_defaults(model)
    inlined = _inlined(model)
    for node in all_nodes(inlined.graph):
        while (
            node.input and not node.input[-1]
        ):  # a call without the function's last inputs leaves blanks behind
            node.input.pop()
    return inlined, origins


def _state_defaults(model: onnx.ModelProto) -> None:
    """Write the defaults of attributes into all calls that leave them out, in place.

    The inliner of ONNX forgets a default that the function hands on to a function that it calls.
    """
    functions = {
        (function.domain, function.name, function.overload): function
        for function in model.functions
    }
    for _ in functions:  # a default rises by one function a round
        lifted = [_lift_defaults(function, functions) for function in model.functions]
        if not any(lifted):
            break
    for nodes in (all_nodes(model.graph), *map(_nodes_of, model.functions)):
        for node in nodes:
            given = {attribute.name for attribute in node.attribute}
            called = functions.get(_called(node))
            node.attribute.extend(
                default
                for default in (() if called is None else called.attribute_proto)
                if default.name not in given
            )


def _lift_defaults(
    function: onnx.FunctionProto, functions: Mapping[tuple[str, str, str], onnx.FunctionProto]
) -> bool:
    """Give attributes without default that of the functions that they are handed on to, in place.

    Only where all of them have the same one. A call that leaves the attribute out means just that.

    Returns:
        Whether an attribute got one.
    """
    plain = list(function.attribute)
    for name in plain:
        found: dict[bytes, onnx.AttributeProto | None] = {}
        for node in _nodes_of(function):
            for handed in node.attribute:
                if handed.ref_attr_name == name:
                    default = _default_of(functions.get(_called(node)), handed.name, name)
                    found[b"" if default is None else default.SerializeToString()] = default
        default = next(iter(found.values()), None)
        if len(found) == 1 and default is not None:
            function.attribute.remove(name)
            function.attribute_proto.append(default)
    return len(function.attribute) < len(plain)


def _called(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.domain, node.op_type, node.overload


def _default_of(
    function: onnx.FunctionProto | None, attribute: str, name: str
) -> onnx.AttributeProto | None:
    """Return the default of an attribute of a function under another name; None: it has none."""
    for default in () if function is None else function.attribute_proto:
        if default.name == attribute:
            copy = onnx.AttributeProto()
            copy.CopyFrom(default)
            copy.name = name
            return copy
    return None


def _nodes_of(function: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a function, also in bodies."""
    for node in function.node:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline with large initializers set aside: the inliner takes one message, 2 GiB."""
    if not is_large(model):
        return inliner.inline_local_functions(model)
    apart = {tensor.name: tensor for tensor in large_initializers(model)}
    bare = without_data(model, apart)
    inlined = inliner.inline_local_functions(bare)
    for tensor in inlined.graph.initializer:
        if tensor.name in apart:
            tensor.CopyFrom(apart[tensor.name])
    return inlined


def _mark_constants(model: onnx.ModelProto) -> dict[str, Origin]:
    """Mark all constants of functions, in place; return what each mark stands for."""
    for tensor in all_tensors(model):
        tensor.doc_string = ""  # so that no mark is the file's own
    origins: dict[str, Origin] = {}
    for function in model.functions:
        for name, tensor in _constants(function):
            mark = f"{_MARK}{len(origins)}"
            is_weight = len(tensor.dims) > 1 and tensor.data_type not in (
                TensorProto.INT64,
                TensorProto.INT32,
                TensorProto.BOOL,
            )
            origins[mark] = Origin(_label(function), name, is_weight, num_elements(tensor))
            tensor.doc_string = mark
    return origins


def _constants(function: onnx.FunctionProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the constants of a function with their names.

    Attributes of Constant nodes, defaults of attributes, initializers of bodies.
    """
    for attribute in function.attribute_proto:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.name, attribute.t
    bodies = [
        graph for node in function.node for body in subgraphs(node) for graph in all_graphs(body)
    ]
    for node in (*function.node, *(node for body in bodies for node in body.node)):
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and node.output:
            yield from ((node.output[0], tensor) for tensor in _held(node))
    for body in bodies:
        yield from ((tensor.name, tensor) for tensor in body.initializer)


def _held(node: onnx.NodeProto) -> Iterator[TensorProto]:
    """Yield the tensor that a Constant node holds, short forms written out, in place."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue
        if attribute.type != onnx.AttributeProto.TENSOR:
            value = constant_value(attribute)
            if value is None or value.dtype == object:
                continue
            attribute.CopyFrom(onnx.helper.make_attribute("value", encode(value, "")))
        yield attribute.t


@dataclass(frozen=True)
class Joined:
    """An initializer that was a constant of a function.

    Attributes:
        name: Its name.
        origin: What it was.
        num_calls: How many calls read it.
    """

    name: str
    origin: Origin
    num_calls: int


def join_constants(
    graph: onnx.GraphProto, origins: Mapping[str, Origin], names: NameMaker
) -> list[Joined]:
    """Make the copies of a constant of a function, one a call, one initializer again, in place.

    It gets the name that it has in the function, where that is free.
    """
    copies: dict[str, list[int]] = {}
    for index, tensor in enumerate(graph.initializer):
        if tensor.doc_string in origins:
            copies.setdefault(tensor.doc_string, []).append(index)
    joined: list[Joined] = []
    renamed: dict[str, str] = {}
    for mark, indices in copies.items():
        first, origin = graph.initializer[indices[0]], origins[mark]
        name = first.name if names.is_taken(origin.name) else names.take(origin.name)
        renamed.update((graph.initializer[index].name, name) for index in indices)
        joined.append(Joined(name, origin, len(indices)))
        first.name, first.doc_string = name, ""
    for index in sorted(
        (index for indices in copies.values() for index in indices[1:]), reverse=True
    ):
        del graph.initializer[index]
    rename_reads(graph, renamed)
    return joined


def joined_notes(joined: Sequence[Joined]) -> list[str]:
    """Return which weights more than one call reads."""
    tied = [f"'{item.name}'" for item in joined if item.num_calls > 1 and item.origin.is_weight]
    if not tied:
        return []
    some = ", ".join(tied[:5]) + (" and more" if len(tied) > 5 else "")
    return [
        "constants of functions that are called more than once are one array each, which all calls"
        f" read: {some}"
    ]


def rename_reads(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Let nodes and outputs of bodies read tensors under other names, bodies included, in place."""
    for inner in all_graphs(graph):
        for node in inner.node:
            if any(name in renamed for name in node.input):
                node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in inner.output if inner is not graph else ():
            value.name = renamed.get(value.name, value.name)
