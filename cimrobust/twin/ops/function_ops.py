"""Operators that the ONNX standard defines by a function body: run as the nodes of that body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
from onnx import defs

from cimrobust.onnx_io.normalise import hoist_constants, make_names_unique
from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, Value
from cimrobust.twin.ops.program import CompiledBody, Scope


def function_kernel(node: Node, proto: onnx.NodeProto, scope: Scope) -> Kernel | None:
    """Return a kernel that runs the function body of an operator, None where the standard has none.

    Raises:
        CannotConvertError: The body has nodes without a converter.
    """
    function = _body(node, proto, scope)
    if function is None:
        return None
    graph = _graph_of(function, proto)
    opsets = {**scope.opsets, **{entry.domain: entry.version for entry in function.opset_import}}
    types = {
        formal: scope.types[actual]
        for formal, actual in zip(function.input, proto.input, strict=False)
        if actual in scope.types
    }
    inner = replace(scope, opsets=opsets, types=types, problems=[])
    body = CompiledBody(graph, node.captures, inner)
    if inner.problems:
        raise CannotConvertError(f"its function body needs {', '.join(inner.problems)}")
    count = len(node.inputs)
    missing = [None] * (body.num_inputs - count)

    def run(*values: Value) -> tuple[Value, ...]:
        return tuple(body.run([*values[:count], *missing], values[count:]))

    return run


def _body(node: Node, proto: onnx.NodeProto, scope: Scope) -> onnx.FunctionProto | None:
    try:
        # Typed as Any: the stubs of onnx leave out what a schema says about its function body.
        schema: Any = defs.get_schema(node.op, node.version, node.domain)
    except defs.SchemaError:
        return None
    function = onnx.FunctionProto()
    if schema.has_function:
        fitting = [version for version in schema.function_opset_versions if version <= node.version]
        function.ParseFromString(
            schema.get_function_with_opset_version(
                max(fitting, default=schema.function_opset_versions[0])
            )
        )
        return function
    if schema.has_context_dependent_function:
        known = [scope.types.get(name) for name in proto.input]
        if any(name and kind is None for name, kind in zip(proto.input, known, strict=True)):
            raise CannotConvertError(
                "its function body depends on the types of its inputs, which are not known"
            )
        types = [(kind or onnx.TypeProto()).SerializeToString() for kind in known]
        versions = schema.context_dependent_function_opset_versions
        fitting = [version for version in versions if version <= node.version]
        version = max(fitting, default=versions[0])
        data = schema.get_context_dependent_function_with_opset_version(
            version, proto.SerializeToString(), types
        )
        if not data:
            return None
        function.ParseFromString(data)
        return function
    return None


def _graph_of(function: onnx.FunctionProto, proto: onnx.NodeProto) -> onnx.GraphProto:
    """Return a function as a graph, attributes of the calling node filled in."""
    given = {attribute.name: attribute for attribute in proto.attribute}
    for attribute in defs.get_schema(proto.op_type, domain=proto.domain).attributes.values():
        if attribute.default_value.name and attribute.name not in given:
            given[attribute.name] = attribute.default_value
    graph = onnx.GraphProto(name=function.name or proto.op_type)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    for inner in function.node:
        copy = graph.node.add()
        copy.CopyFrom(inner)
        _fill(copy, given)
    problems = hoist_constants(graph, make_names_unique(graph))
    if problems:
        raise CannotConvertError(f"its function body has constants without a value: {problems[0]}")
    return graph


def _fill(node: onnx.NodeProto, given: dict[str, onnx.AttributeProto]) -> None:
    """Replace references to attributes of the caller by their values.

    Those that are not given are dropped.
    """
    kept: list[onnx.AttributeProto] = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in given:
                continue
            value = onnx.AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
        else:
            value = onnx.AttributeProto()
            value.CopyFrom(attribute)
            if value.type == onnx.AttributeProto.GRAPH:
                for inner in value.g.node:
                    _fill(inner, given)
        kept.append(value)
    del node.attribute[:]
    node.attribute.extend(kept)
