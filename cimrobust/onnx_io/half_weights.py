"""Stored weights that a network reads in 16 bits, handed over so.

A deployed network holds every stored weight in float32 and casts it to what its file has. Where all
readers cast it to float16 first, the cast can come before the weight is handed over: the values are
the same, and a session holds half of the bytes beside those that it casts back and packs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.onnx_io.fold import replace_nodes
from cimrobust.onnx_io.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32


def read_as_halves(model: onnx.ModelProto, names: Iterable[str]) -> frozenset[str]:
    """Return those of some initializers of the main graph that are cast to float16 everywhere."""
    asked = frozenset(names)
    read: set[str] = set()
    otherwise = {value.name for inner in all_graphs(model.graph) for value in inner.output}
    for index, inner in enumerate(all_graphs(model.graph)):
        for node in inner.node:
            is_cast = index == 0 and _casts_to_half(node)
            (read if is_cast else otherwise).update(asked.intersection(node.input))
    return frozenset(read - otherwise)


def take_halves(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Let initializers be float16 in a model without their data, in place.

    Args:
        model: The model.
        names: Of `read_as_halves` of the same graph.
    """
    chosen = frozenset(names)
    if not chosen:
        return
    renamed = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if _casts_to_half(node) and node.input[0] in chosen
    }
    kept = [node for node in model.graph.node if not renamed.keys() & set(node.output)]
    replace_nodes(model.graph, kept)
    for node in all_nodes(model.graph):
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for tensor in model.graph.initializer:
        if tensor.name in chosen:
            tensor.data_type = TensorProto.FLOAT16


def to_half(values: Float32[np.ndarray, "*weight"]) -> Float[np.ndarray, "*weight"]:
    """Return weights as a node that casts them does: to the nearest, too large ones infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def _casts_to_half(node: onnx.NodeProto) -> bool:
    return (
        node.op_type == "Cast"
        and node.domain in ("", "ai.onnx")
        and any(a.name == "to" and a.i == TensorProto.FLOAT16 for a in node.attribute)
    )
