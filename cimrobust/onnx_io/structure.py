"""What must hold of a model before anything is done with it.

Names, operators, versions, nesting, types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import defs

from cimrobust.onnx_io.lowering import lowering_catalogue  # noqa: F401  (registers the lowerings)
from cimrobust.onnx_io.lowering.lowering_registry import is_lowered
from cimrobust.onnx_io.size_limits import MAX_GRAPH_DEPTH, MAX_NODES, MIN_IR_VERSION, MIN_OPSET
from cimrobust.onnx_io.walk import (
    all_graphs,
    all_nodes,
    defined_names,
    describe,
    op_name,
    opset_versions,
    short_domain,
    subgraphs,
)

#: Domains whose operators onnxruntime has without a schema in the onnx package.
CONTRIB_DOMAINS = frozenset({"com.microsoft"})

_SCHEMA_DOMAINS = frozenset({"", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"})


def header_problems(model: onnx.ModelProto) -> list[str]:
    """Return what is wrong with versions and the bare presence of a graph."""
    problems: list[str] = []
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        return ["it holds no graph, so it is not an ONNX model"]
    if not MIN_IR_VERSION <= model.ir_version <= onnx.IR_VERSION:
        problems.append(
            f"IR version must be {MIN_IR_VERSION} to {onnx.IR_VERSION}, is {model.ir_version}"
        )
    domains = Counter(short_domain(entry.domain) for entry in model.opset_import)
    problems += [
        f"operator set '{domain or 'ai.onnx'}' is imported {count} times"
        for domain, count in domains.items()
        if count > 1
    ]
    if not domains:
        problems.append("no operator set is imported, so the file is cut off or not an ONNX model")
    if not model.graph.output:
        problems.append("the graph has no output")
    return problems


def version_problems(opsets: Mapping[str, int]) -> list[str]:
    """Return why operator set versions are not covered."""
    newest = defs.onnx_opset_version()
    version = opsets.get("")
    if version is None or MIN_OPSET <= version <= newest:
        return []
    return [f"operator set {version}, covered are {MIN_OPSET} to {newest}"]


def nesting_problems(graph: onnx.GraphProto) -> list[str]:
    """Return whether bodies are nested too deep or nodes are too many.

    Looks level by level, so depth costs no recursion.
    """
    level, count = [graph], 0
    for _ in range(MAX_GRAPH_DEPTH):
        count += sum(len(inner.node) for inner in level)
        level = [body for inner in level for node in inner.node for body in subgraphs(node)]
        if count > MAX_NODES:
            return [f"the graph has more than {MAX_NODES} nodes"]
        if not level:
            return []
    return [f"bodies are nested deeper than {MAX_GRAPH_DEPTH}"]


def name_problems(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> list[str]:
    """Return names that are defined twice, or are read or asked for as output but never made."""
    inputs = [value.name for value in graph.input]
    initializers = [tensor.name for tensor in graph.initializer]
    made = [name for node in graph.node for name in node.output if name]
    problems = [f"graph input '{name}' is declared twice" for name in _twice(inputs)]
    problems += [f"initializer '{name}' is defined twice" for name in _twice(initializers)]
    problems += [f"tensor '{name}' is made by more than one node" for name in _twice(made)]
    problems += [
        f"tensor '{name}' is made by a node but is also an input or initializer"
        for name in set(made) & {*inputs, *initializers}
    ]
    problems += [
        f"graph output '{name}' is declared twice"
        for name in _twice([value.name for value in graph.output])
    ]
    problems += [
        f"a {what} has no name"
        for what, names in (("graph input", inputs), ("initializer", initializers))
        if "" in names
    ]
    known = outer | set(defined_names(graph))
    problems += [
        f"graph output '{value.name}' is made by no node"
        for value in graph.output
        if value.name not in known
    ]
    for node in graph.node:
        missing = [name for name in node.input if name and name not in known]
        problems += [f"input '{name}' of {describe(node)} is made by no node" for name in missing]
        for body in subgraphs(node):
            problems += name_problems(body, known)
    return problems


def hidden_problems(
    graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto] | None = None
) -> list[str]:
    """Return initializers of bodies that have the name of another one outside.

    Names must be unique over all bodies. Nobody checks it of initializers, and onnxruntime takes
    the outer one for If, the inner one for Loop.
    """
    known = {**(outer or {}), **{tensor.name: tensor for tensor in graph.initializer}}
    problems: list[str] = []
    for node in graph.node:
        for body in subgraphs(node):
            problems += [
                f"initializer '{tensor.name}' in a body of {describe(node)} has the name of another"
                " one outside, and runtimes differ in which they take"
                for tensor in body.initializer
                if tensor.name in known and tensor != known[tensor.name]
            ]
            problems += hidden_problems(body, known)
    return problems


def _twice(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def operator_problems(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Return operators that do not exist.

    The file is wrong), and operators of domains that nothing here knows (not covered.
    """
    opsets = opset_versions(model)
    functions = {
        (short_domain(function.domain), function.name, function.overload)
        for function in model.functions
    }
    wrong: list[str] = []
    foreign: list[str] = []
    for node, versions in _nodes_with_opsets(model, opsets):
        domain = short_domain(node.domain)
        if (domain, node.op_type, node.overload) in functions or domain in CONTRIB_DOMAINS:
            continue
        if domain in _SCHEMA_DOMAINS and domain not in versions:
            wrong.append(f"{describe(node)} is of a domain whose operator set is not imported")
        elif is_lowered(op_name(node), versions.get("", 0)):
            continue
        elif domain not in _SCHEMA_DOMAINS:
            foreign.append(f"{describe(node)} is of an operator domain that is not known here")
        else:
            wrong += _schema_problem(node, domain, versions[domain])
    return wrong, foreign


def runtime_problems(model: onnx.ModelProto) -> list[str]:
    """Return why onnxruntime cannot run a model whose operators are all known here.

    Domains that are lowered and that it does not have.
    """
    domains = (
        {short_domain(node.domain) for node in all_nodes(model.graph)}
        - CONTRIB_DOMAINS
        - _SCHEMA_DOMAINS
    )
    return [f"onnxruntime has no operators of {', '.join(sorted(domains))}"] if domains else []


def shared_name_problems(model: onnx.ModelProto) -> list[str]:
    """Return that nodes of one graph share a name, which the standard allows, if some do.

    Of the model as it is in the file.
    """
    shared = [
        name
        for graph in all_graphs(model.graph)
        for name, count in Counter(node.name for node in graph.node if node.name).items()
        if count > 1
    ]
    if not shared:
        return []
    more = " and others" if len(shared) > 1 else ""
    return [f"onnxruntime refuses nodes that share a name, as '{shared[0]}'{more}"]


def _nodes_with_opsets(
    model: onnx.ModelProto, opsets: dict[str, int]
) -> Iterator[tuple[onnx.NodeProto, dict[str, int]]]:
    for node in all_nodes(model.graph):
        yield node, opsets
    for function in model.functions:
        own = {short_domain(entry.domain): int(entry.version) for entry in function.opset_import}
        for node in function.node:
            yield node, own
            for body in subgraphs(node):
                for inner in all_nodes(body):
                    yield inner, own


def _schema_problem(node: onnx.NodeProto, domain: str, version: int) -> list[str]:
    if not defs.has(node.op_type, domain):
        return [f"{describe(node)} names an operator that does not exist"]
    try:
        schema = defs.get_schema(
            node.op_type,
            min(version, defs.onnx_opset_version()) if domain == "" else version,
            domain,
        )
    except defs.SchemaError:
        return [f"{describe(node)} names an operator that does not exist in operator set {version}"]
    if schema.deprecated:
        return [f"{describe(node)} names an operator that operator set {version} no longer has"]
    return []


def function_problems(model: onnx.ModelProto) -> list[str]:
    """Return whether local functions form a call cycle or would expand to too many nodes."""
    functions = {
        (short_domain(function.domain), function.name, function.overload): function
        for function in model.functions
    }
    sizes: dict[tuple[str, str, str], int] = {}
    visiting: set[tuple[str, str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (short_domain(node.domain), node.op_type, node.overload)
            total += function_size(key) if key in functions else 1
            for body in subgraphs(node):
                total += size(body.node)
        return total

    def function_size(key: tuple[str, str, str]) -> int:
        if key in visiting or len(visiting) > 64:
            raise RecursionError
        if key not in sizes:
            visiting.add(key)
            sizes[key] = size(functions[key].node)
            visiting.discard(key)
        return sizes[key]

    try:
        total = size(model.graph.node)
        for key in functions:
            function_size(key)
    except RecursionError:
        return ["its functions call each other in a circle or too deep"]
    return (
        [f"its functions expand to {total} nodes, more than {MAX_NODES}"]
        if total > MAX_NODES
        else []
    )
