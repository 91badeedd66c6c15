"""Infer types and shapes of all tensors of a model.

ONNX shape inference runs on a copy without the large weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import shape_inference

from cimrobust.onnx_io.contrib import stand_in
from cimrobust.onnx_io.network import TensorSpec
from cimrobust.onnx_io.size_limits import MAX_ACTIVATION_BYTES, MAX_SHAPE_ELEMENTS
from cimrobust.onnx_io.tensors import element_bits, num_elements, type_name
from cimrobust.onnx_io.walk import all_graphs, all_nodes, attributes
from cimrobust.printable_text import printable

_SMALL = 1024


@dataclass(frozen=True)
class TensorType:
    """Element type (ONNX number) and shape of a tensor.

    A shape entry is a number, a symbol or None; None as a whole: unknown rank.
    """

    elem_type: int
    shape: tuple[int | str | None, ...] | None

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape, if every entry is a number."""
        if self.shape is None or not all(isinstance(dim, int) for dim in self.shape):
            return None
        return tuple(dim for dim in self.shape if isinstance(dim, int))


def read_type(value: onnx.ValueInfoProto) -> TensorType | None:
    """Return the tensor type of a value; None for sequences, maps, optionals and sparse tensors."""
    if value.type.WhichOneof("value") != "tensor_type":
        return None
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    return TensorType(tensor.elem_type, tuple(_read_dim(dim) for dim in tensor.shape.dim))


def _read_dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    kind = dim.WhichOneof("value")
    if kind == "dim_value":
        return int(dim.dim_value)
    return str(dim.dim_param) or None if kind == "dim_param" else None


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """Return a graph input or output as a TensorSpec; it must be a tensor of known element type."""
    read = read_type(value)
    assert read is not None
    return TensorSpec(value.name, type_name(read.elem_type), read.shape)


def skeleton(model: onnx.ModelProto, *, stand_ins: bool = True) -> onnx.ModelProto:
    """Return a model for inference and checks alone.

    Large initializers are graph inputs, com.microsoft operators have stand-ins.
    """
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    bare.opset_import.extend(model.opset_import)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        graph.node.extend(stand_in(node, initializers) if stand_ins else [node])
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if num_elements(tensor) <= _SMALL:
            graph.initializer.add().CopyFrom(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    for inner in all_graphs(graph):
        del inner.value_info[:]
    return bare


def without_large_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for inference and shape arithmetic: of large initializers only the form."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.graph.name = model.graph.name
    copy.graph.node.extend(model.graph.node)
    copy.graph.input.extend(model.graph.input)
    copy.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if num_elements(tensor) <= max(_SMALL, MAX_SHAPE_ELEMENTS):
            copy.graph.initializer.add().CopyFrom(tensor)
        else:
            copy.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
            )
    return copy


def checker_problem(model: onnx.ModelProto) -> str | None:
    """Return what the checker of the onnx package says against a model, None if nothing.

    Inputs and outputs without a stated rank, which the checker does not know, are let pass.
    """
    bare = skeleton(model, stand_ins=False)
    for value in (*bare.graph.input, *bare.graph.output):
        if value.type.WhichOneof("value") in (None, "tensor_type"):
            value.type.tensor_type.shape.SetInParent()
            value.type.tensor_type.elem_type = (
                value.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
            )
    try:
        onnx.checker.check_model(bare)
    except Exception as err:  # the checker raises several unrelated kinds
        return printable(err)
    return None


def infer_types(
    model: onnx.ModelProto,
    *,
    strict: bool,
    ignore_output_shapes: bool = False,
    sizes_apart: bool = False,
) -> dict[str, TensorType]:
    """Return the type of every tensor that inference can tell, initializers and inputs included.

    What the file itself says about inner tensors is not used, nor are the shapes that it states for
    inputs and outputs of bodies, which no runtime holds it to; `strict` checks them. Names must be
    unique over all bodies.

    Args:
        model: The model.
        strict: Raise where something does not fit.
        ignore_output_shapes: Use no shapes that the file states for its outputs either.
        sizes_apart: Take axes of inputs for different ones also where they have the same name.

    Raises:
        ValueError: `strict`, and shapes or types contradict each other.
    """
    types: dict[str, TensorType] = {}
    found = infer_values(
        model, strict=strict, ignore_output_shapes=ignore_output_shapes, sizes_apart=sizes_apart
    )
    for name, value in found.items():
        read = read_type(value)
        if read is not None:
            types[name] = read
    return types


def infer_values(
    model: onnx.ModelProto,
    *,
    strict: bool,
    ignore_output_shapes: bool = False,
    sizes_apart: bool = False,
) -> dict[str, onnx.ValueInfoProto]:
    """Return what infer_types does as ONNX says it, tensors and others: sequences, optionals.

    Raises:
        ValueError: `strict`, and shapes or types contradict each other.
    """
    bare = skeleton(model)
    if ignore_output_shapes:
        _forget_shapes(bare.graph.output)
    if not strict:
        for body in list(all_graphs(bare.graph))[1:]:
            _forget_shapes((*body.input, *body.output))
    if sizes_apart:
        _rename_sizes(bare.graph)
    try:
        inferred = shape_inference.infer_shapes(
            bare, check_type=strict, strict_mode=strict, data_prop=True
        )
    except Exception as err:  # inference raises several unrelated kinds for bad models
        raise ValueError(printable(err)) from err
    values: dict[str, onnx.ValueInfoProto] = {}
    for graph in all_graphs(inferred.graph):
        values.update(
            (value.name, value) for value in (*graph.value_info, *graph.output, *graph.input)
        )
    for tensor in bare.graph.initializer:
        values[tensor.name] = onnx.helper.make_tensor_value_info(
            tensor.name, tensor.data_type, list(tensor.dims)
        )
    return values


def has_half_activations(model: onnx.ModelProto) -> bool:
    """Return whether a node makes floating-point numbers of 16 bits."""
    types = infer_types(model, strict=False)
    kinds = (types.get(name) for node in all_nodes(model.graph) for name in node.output)
    return any(
        kind is not None and kind.elem_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        for kind in kinds
    )


#: Operators whose output has the rank of their first input.
_SAME_RANK = frozenset(
    {
        "BatchNormalization",
        "Cast",
        "Clip",
        "Dropout",
        "Erf",
        "Gelu",
        "Identity",
        "LayerNormalization",
        "Relu",
        "Sigmoid",
        "Softmax",
        "Tanh",
    }
)


def rank_of(
    name: str, types: Mapping[str, TensorType], makers: Mapping[str, onnx.NodeProto]
) -> int | None:
    """Return the number of axes of a tensor, also where inference gave up on its shape.

    None if it cannot be told.

    Args:
        name: The tensor.
        types: What inference found.
        makers: The node that makes each tensor.
    """
    while True:
        kind, maker = types.get(name), makers.get(name)
        if kind is not None and kind.shape is not None:
            return len(kind.shape)
        if maker is None or maker.domain:
            return None
        order = attributes(maker).get("perm")
        if maker.op_type == "Transpose" and isinstance(order, list):
            return len(order)
        target = types.get(maker.input[1]) if maker.op_type == "Reshape" else None
        if target is not None and target.static_shape:
            return target.static_shape[0]
        if maker.op_type not in _SAME_RANK:
            return None
        name = maker.input[0]


def _forget_shapes(values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def _rename_sizes(graph: onnx.GraphProto) -> None:
    """Give every named axis of the inputs a name of its own, in place."""
    for index, value in enumerate(graph.input):
        for axis, dim in enumerate(
            value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ()
        ):
            if dim.dim_param:
                dim.dim_param = f"{dim.dim_param}//{index}//{axis}"


def size_problems(types: Mapping[str, TensorType]) -> list[str]:
    """Return tensors whose shape alone asks for more memory than is sane; symbols count as 1."""
    problems: list[str] = []
    for name, kind in types.items():
        dims = [dim for dim in kind.shape or () if isinstance(dim, int)]
        if any(dim < 0 for dim in dims):
            problems.append(f"tensor '{name}' has negative dims {dims}")
        elif math.prod(dims) * element_bits(kind.elem_type) > 8 * MAX_ACTIVATION_BYTES:
            problems.append(
                f"tensor '{name}' of shape {dims} needs more than {MAX_ACTIVATION_BYTES} bytes"
            )
    return problems
