"""Nodes that a file leaves in training mode.

A deployed network runs as at inference. onnxruntime leaves Dropout in training mode out when it
optimises a graph, but only where nobody asks for the mask: else, and without optimisation, it draws
at random. So the node is made what it is at inference as the model is loaded, for everybody who
runs it. BatchNormalization in training mode is run as such: with the mean and variance of the batch
at hand.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.tensors import decode, encode
from cimrobust.onnx_io.walk import (
    NameMaker,
    all_graphs,
    all_nodes,
    defined_names,
    describe,
    int_attribute,
)

_MODE_INPUT = 2
_MASK = 1


def training_problems(model: onnx.ModelProto) -> list[str]:
    """Return the BatchNormalization nodes that normalise with the statistics of the batch at hand.

    Before operator set 14 the mode is stated by asking for the statistics.
    """
    return [
        f"{describe(node)} is in training mode, so what it makes of one sample depends on the"
        " others of its batch; export the model in inference mode (model.eval())"
        for node in all_nodes(model.graph)
        if node.op_type == "BatchNormalization"
        and not node.domain
        and (int_attribute(node, "training_mode", 0) or sum(1 for name in node.output if name) > 1)
    ]


def dropout_at_inference(model: onnx.ModelProto) -> list[str]:
    """Make every Dropout that may be in training mode the identity, and its mask ones, in place.

    Return the names of the nodes.

    Names must be unique over all bodies, and constants initializers of the graph.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = NameMaker(name for inner in all_graphs(model.graph) for name in defined_names(inner))
    found: list[str] = []
    for inner in all_graphs(model.graph):
        made: list[onnx.NodeProto] = []
        for node in inner.node:
            if _may_train(node, constants):
                found.append(node.name or node.output[0])
                made += _at_inference(node, model.graph, names)
            else:
                made.append(node)
        replace_nodes(inner, made)
    return found


def _may_train(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    if (
        node.op_type != "Dropout"
        or node.domain
        or len(node.input) <= _MODE_INPUT
        or not node.input[_MODE_INPUT]
    ):
        return False
    mode = constants.get(node.input[_MODE_INPUT])
    return mode is None or bool(decode(mode).any())


def _at_inference(
    node: onnx.NodeProto, graph: onnx.GraphProto, names: NameMaker
) -> list[onnx.NodeProto]:
    """Return the nodes of a Dropout at inference.

    Its input, and a mask of ones where there is a name for it.
    """
    data, label = node.input[0], node.name or node.output[0]
    made = (
        [onnx.helper.make_node("Identity", [data], [node.output[0]], name=label)]
        if node.output[0]
        else []
    )
    if len(node.output) > _MASK and node.output[_MASK]:
        shape = names.take(f"{label}.shape")
        made.append(onnx.helper.make_node("Shape", [data], [shape], name=f"{label}.shape"))
        ones = onnx.helper.make_node(
            "ConstantOfShape", [shape], [node.output[_MASK]], name=f"{label}.mask"
        )
        ones.attribute.append(onnx.helper.make_attribute("value", encode(np.array([True]), "")))
        made.append(ones)
    return made
