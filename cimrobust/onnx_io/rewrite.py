"""A network whose crossbar layers are nodes of a domain of their own.

ONNX functions say what these nodes compute.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import defs

from cimrobust.onnx_io.crossbar_nodes import stored_uses
from cimrobust.onnx_io.save import with_weights
from cimrobust.onnx_io.walk import NameMaker, all_graphs, all_nodes, defined_names, opset_versions
from cimrobust.onnx_io.weights import WeightUse, weights_of

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.onnx_io.deployed import Deployed

#: Operator domain of crossbar nodes, and its version.
DOMAIN = "cimrobust"
DOMAIN_VERSION = 1

_FUNCTIONS_SINCE_IR = 8  # model-local functions
_NODE_METADATA_SINCE_IR = 10  # NodeProto.metadata_props

Facts = Mapping[str, object]


@dataclass(frozen=True)
class CrossbarModel:
    """A rewritten network.

    Attributes:
        model: A valid ONNX model that any runtime runs.
        num_nodes: Crossbar nodes per function.
    """

    model: onnx.ModelProto
    num_nodes: Mapping[str, int]


def with_crossbar_nodes(
    deployed: Deployed,
    weights: Mapping[str, Float32[np.ndarray, "..."]],
    *,
    layers: Mapping[str, Facts],
    properties: Mapping[str, str],
) -> CrossbarModel:
    """Return a network whose nodes with stored weights are all ``cimrobust::Crossbar<operator>``.

    The function behind it is the operator itself, so the model computes what it did. What `layers`
    says stands in the metadata of the node as one entry ``cimrobust.<input>`` for each stored
    weight, a JSON list with one object an initializer; in models of IR versions that have no
    metadata of nodes, in its doc string as one JSON object.

    Args:
        deployed: The network.
        weights: Values of stored initializers, as for with_weights.
        layers: What to say of each stored initializer.
        properties: Metadata of the whole model, whose keys replace those of the file.
    """
    model = with_weights(deployed, weights)
    uses = stored_uses(deployed, weights_of(deployed.model))
    nodes = [node for node in all_nodes(model.graph) if node.name in uses]
    _set_version(model)
    _set_properties(model, properties)
    names = NameMaker(name for inner in all_graphs(model.graph) for name in defined_names(inner))
    counts: Counter[str] = Counter()
    for key in dict.fromkeys((node.domain, node.op_type) for node in nodes):
        same = [node for node in nodes if (node.domain, node.op_type) == key]
        function = _function(same, opset_versions(deployed.model))
        for node in same:
            _call(node, function, names)
            _annotate(node, uses[node.name], layers, model.ir_version)
        model.functions.append(function)
        counts[function.name] = len(same)
    return CrossbarModel(model, dict(counts))


def _set_version(model: onnx.ModelProto) -> None:
    """Raise the IR version to one with functions, and import the domain."""
    model.ir_version = max(model.ir_version, _FUNCTIONS_SINCE_IR)
    if DOMAIN not in opset_versions(model):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION))


def _function(nodes: Sequence[onnx.NodeProto], opsets: Mapping[str, int]) -> onnx.FunctionProto:
    """Return the function for all nodes of one operator.

    The operator with as many inputs, outputs and attributes as any of them has.
    """
    domain, op = nodes[0].domain, nodes[0].op_type
    inputs, outputs = _parameter_names(
        domain, op, max(len(node.input) for node in nodes), max(len(node.output) for node in nodes)
    )
    body = onnx.helper.make_node(op, inputs, outputs, name=op, domain=domain or None)
    kinds = {attribute.name: attribute.type for node in nodes for attribute in node.attribute}
    for name, kind in kinds.items():
        body.attribute.append(onnx.AttributeProto(name=name, type=kind, ref_attr_name=name))
    imports = [
        onnx.helper.make_opsetid(name, opsets[name])
        for name in dict.fromkeys(("", domain))
        if name in opsets
    ]
    return onnx.helper.make_function(
        DOMAIN,
        f"Crossbar{op}",
        inputs,
        outputs,
        [body],
        imports,
        list(kinds),
        doc_string=(
            f"{op} whose weights are stored in a crossbar; this is what it computes without"
            " converters and with exact devices."
        ),
    )


def _parameter_names(
    domain: str, op: str, num_inputs: int, num_outputs: int
) -> tuple[list[str], list[str]]:
    """Return names for inputs and outputs, those of the operator's schema where there is one."""
    inputs, outputs = (
        [f"input{index}" for index in range(num_inputs)],
        [f"output{index}" for index in range(num_outputs)],
    )
    if not defs.has(op, domain):
        return inputs, outputs
    schema = defs.get_schema(op, domain)
    if len(schema.inputs) >= num_inputs and len(schema.outputs) >= num_outputs:
        return [entry.name for entry in schema.inputs[:num_inputs]], [
            entry.name for entry in schema.outputs[:num_outputs]
        ]
    return inputs, outputs  # a schema with a variable number of inputs, such as Einsum's


def _call(node: onnx.NodeProto, function: onnx.FunctionProto, names: NameMaker) -> None:
    """Let a node call the function; runtimes let inputs be left out of a call, but no outputs."""
    outputs = list(node.output) + [""] * (len(function.output) - len(node.output))
    label = next(name for name in outputs if name)
    node.output[:] = [name or names.take(f"{label}.unused") for name in outputs]
    node.domain, node.op_type = function.domain, function.name


def _annotate(
    node: onnx.NodeProto, uses: Sequence[WeightUse], layers: Mapping[str, Facts], ir_version: int
) -> None:
    facts = {
        f"{DOMAIN}.{use.slot.role}": [layers[leaf] for leaf in use.trace.leaves] for use in uses
    }
    if ir_version < _NODE_METADATA_SINCE_IR:
        node.doc_string = json.dumps(facts)
    else:
        _set_properties(node, {key: json.dumps(value) for key, value in facts.items()})


def _set_properties(
    message: onnx.ModelProto | onnx.NodeProto, properties: Mapping[str, str]
) -> None:
    """Add or replace metadata entries, in place."""
    by_key = {entry.key: entry for entry in message.metadata_props}
    for key, value in properties.items():
        entry = by_key[key] if key in by_key else message.metadata_props.add()
        entry.key, entry.value = key, value
