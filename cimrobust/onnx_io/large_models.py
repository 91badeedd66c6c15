"""Models whose tensors do not fit into one protobuf message, 2 GiB.

In memory they are models as all others are. Where they leave it, their large initializers go apart:
to a file beside the model, or handed over in memory.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import TensorProto

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.size_limits import MAX_TENSOR_BYTES
from cimrobust.onnx_io.tensors import num_bytes
from cimrobust.onnx_io.walk import all_tensors
from cimrobust.printable_text import printable

# Initializers of fewer bytes stay inside.
_LEAST = 1024


def tensor_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of all tensors of a sound model."""
    return sum(num_bytes(tensor) for tensor in all_tensors(model))


def is_large(model: onnx.ModelProto) -> bool:
    """Tell whether a model has more tensors than one message holds."""
    return tensor_bytes(model) > MAX_TENSOR_BYTES


def require_one_message(size: int, *, what: str, where: object, hint: str) -> None:
    """Raise ModelNotCoveredError unless tensors fit into one protobuf message.

    Args:
        size: Bytes of the tensors.
        what: What needs it to.
        where: The model file.
        hint: The way out.
    """
    if size > MAX_TENSOR_BYTES:
        raise ModelNotCoveredError(
            f"{what} must have at most {MAX_TENSOR_BYTES} bytes of tensors, got {size}"
            f" ({printable(where)}); {hint}"
        )


def large_initializers(
    model: onnx.ModelProto, given: Collection[str] = frozenset()
) -> list[TensorProto]:
    """Return the initializers of the main graph that go apart, in their order.

    Args:
        model: The model.
        given: Initializers whose values are not those of the model, which may have none for them.
    """
    return [
        tensor
        for tensor in model.graph.initializer
        if (tensor.HasField("raw_data") or tensor.name in given) and num_bytes(tensor) >= _LEAST
    ]


def without_data(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """Return a copy of a model in which some initializers have type and dims, and no data.

    Their data are never copied. Nothing says yet where they are.
    """
    bare = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(bare, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(bare.graph, field.name, value)
    bare.graph.SetInParent()
    chosen = frozenset(names)
    for tensor in model.graph.initializer:
        if tensor.name not in chosen:
            bare.graph.initializer.add().CopyFrom(tensor)
            continue
        added = bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
        added.dims.extend(tensor.dims)
        if tensor.doc_string:
            added.doc_string = tensor.doc_string
    return bare


def mark_external(tensor: TensorProto, *, location: str, offset: int, length: int) -> None:
    """Say in a tensor without data where they are."""
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _set(message: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    """Put a field of one message into another: a list, a message or a plain value."""
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    elif hasattr(value, "ListFields"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
