"""Outputs that a ZipMap names, score by score.

The scores are what is wanted, and the names say which class each belongs to.
"""

from __future__ import annotations

import onnx

from cimrobust.onnx_io.walk import attributes

_OP, _DOMAIN = "ZipMap", "ai.onnx.ml"


def zip_map_keys(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Return the labels of the scores, in order, for every graph output made by a ZipMap."""
    outputs = {value.name for value in model.graph.output}
    keys: dict[str, tuple[int | str, ...]] = {}
    for node in model.graph.node:
        if _is_zip_map(node) and node.output[0] in outputs:
            given = attributes(node)
            listed = given.get("classlabels_strings") or given.get("classlabels_int64s")
            keys[node.output[0]] = tuple(
                label
                for label in (listed if isinstance(listed, list) else [])
                if isinstance(label, int | str)
            )
    return keys


def open_zip_maps(graph: onnx.GraphProto) -> list[str]:
    """Replace every ZipMap at an output by the scores it names, in place.

    Return the names of the outputs.
    """
    values = {value.name: value for value in graph.output}
    opened = []
    for node in graph.node:
        if not _is_zip_map(node) or node.output[0] not in values:
            continue
        node.op_type, node.domain = "Identity", ""
        del node.attribute[:]
        value = values[node.output[0]]
        value.ClearField("type")
        value.type.tensor_type.elem_type = (
            onnx.TensorProto.FLOAT
        )  # the only type that a ZipMap takes
        opened.append(value.name)
    return opened


def _is_zip_map(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == _OP and node.domain == _DOMAIN)
