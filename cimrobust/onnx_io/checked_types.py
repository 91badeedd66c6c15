"""Types and shapes of all tensors of a file, as inference finds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from cimrobust.onnx_io.problems import not_covered, refuse
from cimrobust.onnx_io.sandbox import inference_problem
from cimrobust.onnx_io.shapes import checker_problem, infer_types, size_problems, skeleton
from cimrobust.onnx_io.walk import all_graphs

if TYPE_CHECKING:
    from cimrobust.onnx_io.shapes import TensorType


def check_types(path: Path, model: onnx.ModelProto, notes: list[str]) -> dict[str, TensorType]:
    """Check operators and types strictly; return the type of every tensor."""
    for graph in all_graphs(model.graph):
        del graph.value_info[:]
    model.graph.name = model.graph.name or "graph"
    refused = checker_problem(model)
    refuse(path, [f"the ONNX checker says: {refused[:400]}"] if refused else [])
    unsafe = inference_problem(skeleton(model).SerializeToString())
    refuse(path, [unsafe] if unsafe else [])
    try:
        types = infer_types(model, strict=True)
    except ValueError as first:
        try:
            types = infer_types(model, strict=True, ignore_output_shapes=True)
        except ValueError as err:
            refuse(path, [f"its shapes or types contradict each other: {err}"])
            raise
        notes.append(
            f"the file states wrong shapes for its outputs; they are ignored ({str(first)[:200]})"
        )
        for value in model.graph.output:
            kind = types.get(value.name)
            value.CopyFrom(
                onnx.helper.make_tensor_value_info(
                    value.name, value.type.tensor_type.elem_type, kind.shape if kind else None
                )
            )
    refuse(path, size_problems(types))
    return types


def complete_outputs(path: Path, model: onnx.ModelProto) -> None:
    """Give outputs the inferred type and shape where the file says nothing, in place."""
    types = infer_types(model, strict=False)
    for value in model.graph.output:
        kind, stated = types.get(value.name), value.type.tensor_type
        if stated.elem_type == onnx.TensorProto.UNDEFINED and (
            kind is None or kind.elem_type == onnx.TensorProto.UNDEFINED
        ):
            not_covered(path, [f"the type of graph output '{value.name}' is not known"])
        if kind is not None and (
            stated.elem_type == onnx.TensorProto.UNDEFINED or not stated.HasField("shape")
        ):
            value.CopyFrom(
                onnx.helper.make_tensor_value_info(
                    value.name, stated.elem_type or kind.elem_type, kind.shape
                )
            )
