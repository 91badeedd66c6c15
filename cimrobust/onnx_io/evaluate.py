"""Evaluation of single nodes on constants, with NumPy, by ONNX's own reference implementation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped


# Oldest operator set in which the reference implementation has DequantizeLinear.
_DEQUANTISED_SINCE = 19


def evaluate_node(
    node: onnx.NodeProto,
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    opsets: Mapping[str, int],
) -> list[Shaped[np.ndarray, "..."]]:
    """Return the outputs of a node without bodies for given inputs.

    None stands for an input left out.

    Raises:
        ValueError: The reference implementation cannot do it.
    """
    # Loads every operator of the standard; most networks have no constants left to fold.
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    alone = onnx.NodeProto()
    alone.CopyFrom(node)
    alone.input[:] = [
        f"in{index}" if value is not None else "" for index, value in enumerate(inputs)
    ]
    alone.output[:] = [f"out{index}" for index in range(len(node.output))]
    if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        alone.domain = ""  # the com.microsoft forms are the standard ones under another name
        # Version 19 added types alone, and the reference has none before.
        opsets = {**opsets, "": max(opsets.get("", 0), _DEQUANTISED_SINCE)}
    feeds = {f"in{index}": value for index, value in enumerate(inputs) if value is not None}
    unknown = onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=onnx.TensorProto.FLOAT))
    graph = onnx.helper.make_graph(
        [alone],
        "node",
        [onnx.helper.make_value_info(name, unknown) for name in feeds],
        [onnx.helper.make_value_info(name, unknown) for name in alone.output],
    )
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports)).run(
                None, feeds
            )
    except Exception as err:  # the reference raises whatever its NumPy code raises
        raise ValueError(f"{type(err).__name__}: {err}") from err
    return [np.asarray(value) for value in results]
