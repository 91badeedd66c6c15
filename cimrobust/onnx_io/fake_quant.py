"""Input converters as ordinary operators, for the differentiable twin.

What drives a crossbar node is rounded to the levels of its word lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from cimrobust.onnx_io.tensors import encode
from cimrobust.onnx_io.walk import NameMaker, all_graphs, defined_names, opset_versions

# Round came with operator set 11.
_ROUND_OPSET = 11


@dataclass(frozen=True)
class InputLevels:
    """Levels of one input.

    ``x`` becomes ``(clip(round(x * inverse_scale) + zero_point, low, high) - zero_point) /
    inverse_scale``.
    """

    inverse_scale: float
    zero_point: float
    low: float
    high: float


def with_fake_quantisers(
    model: onnx.ModelProto, levels: Mapping[tuple[str, int], InputLevels]
) -> onnx.ModelProto:
    """Return a copy of a model whose nodes read rounded inputs.

    Args:
        model: The model; where its operator set has no Round, it is returned as it is.
        levels: By name of a node and position of its input.
    """
    if opset_versions(model).get("", 0) < _ROUND_OPSET or not levels:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    names = NameMaker(name for inner in all_graphs(graph) for name in defined_names(inner))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for position, name in enumerate(node.input):
            if (node.name, position) in levels and name:
                made, node.input[position] = _rounded(
                    name, levels[node.name, position], names, graph
                )
                nodes += made
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _rounded(
    name: str, levels: InputLevels, names: NameMaker, graph: onnx.GraphProto
) -> tuple[list[onnx.NodeProto], str]:
    nodes: list[onnx.NodeProto] = []

    def apply(op: str, source: str, value: float | None = None) -> str:
        inputs = [source]
        if value is not None:
            inputs.append(names.take(f"{name}.{op}.value"))
            graph.initializer.append(encode(np.array(value, dtype=np.float32), inputs[1]))
        output = names.take(f"{name}.{op}")
        nodes.append(onnx.helper.make_node(op, inputs, [output], name=output))
        return output

    level = apply("Round", apply("Mul", name, levels.inverse_scale))
    inside = apply(
        "Max", apply("Min", level, levels.high - levels.zero_point), levels.low - levels.zero_point
    )
    return nodes, apply("Div", inside, levels.inverse_scale)
