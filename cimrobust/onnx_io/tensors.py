"""Tensors of a file as NumPy arrays.

Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from cimrobust.onnx_io.size_limits import MAX_RANK, MAX_TENSOR_BYTES

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

#: ONNX numbers of UINT2 and INT2, which the oldest onnx package that is supported does not name.
TWO_BIT_TYPES = (25, 26)

_BITS: dict[int, int] = {
    **dict.fromkeys(TWO_BIT_TYPES, 2),
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.STRING: 0,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
}

_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}


def num_elements(tensor: TensorProto) -> int:
    """Return the product of the dims (exact, no overflow)."""
    return math.prod(tensor.dims)


def num_bytes(tensor: TensorProto) -> int:
    """Return the bytes the values of a tensor of known type take in a file."""
    return (num_elements(tensor) * _BITS[tensor.data_type] + 7) // 8


def form_problem(tensor: TensorProto) -> str | None:
    """Return what is wrong with type and dims of a tensor, None if nothing."""
    name = f"tensor '{tensor.name}'"
    if tensor.data_type not in _BITS:
        return f"{name} has unknown data type {tensor.data_type}"
    if len(tensor.dims) > MAX_RANK:
        return f"{name} has {len(tensor.dims)} axes, more than {MAX_RANK}"
    if any(dim < 0 for dim in tensor.dims):
        return f"{name} has negative dims {list(tensor.dims)}"
    if max(num_bytes(tensor), num_elements(tensor)) > MAX_TENSOR_BYTES:
        return (
            f"{name} claims {num_elements(tensor)} elements, more than the limit of"
            f" {MAX_TENSOR_BYTES} bytes"
        )
    if tensor.HasField("segment"):
        return f"{name} is split into segments, which no runtime supports"
    return None


def data_problem(tensor: TensorProto) -> str | None:
    """Return what is wrong with the amount of data in a well-formed tensor, None if nothing."""
    name = f"tensor '{tensor.name}'"
    shape = list(tensor.dims)
    if tensor.HasField("raw_data"):
        if tensor.data_type == TensorProto.STRING:
            return f"{name} holds strings as raw data"
        if len(tensor.raw_data) != num_bytes(tensor):
            return (
                f"{name} of shape {shape} needs {num_bytes(tensor)} bytes, holds"
                f" {len(tensor.raw_data)}"
            )
        return None
    field = _FIELDS.get(tensor.data_type, "int32_data")
    held = len(getattr(tensor, field))
    needed = _num_entries(tensor)
    return (
        None
        if held == needed
        else f"{name} of shape {shape} needs {needed} values in {field}, holds {held}"
    )


def _num_entries(tensor: TensorProto) -> int:
    """Return the number of entries of the typed data field."""
    count = num_elements(tensor)
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count
    bits = _BITS[tensor.data_type]
    return -(-count * bits // 8) if bits in (2, 4) else count


def decode(tensor: TensorProto) -> Shaped[np.ndarray, "..."]:
    """Return the values of a checked tensor as a read-only array."""
    values = np.asarray(numpy_helper.to_array(tensor))
    values.setflags(write=False)
    return values


def is_float(values: Shaped[np.ndarray, "..."]) -> bool:
    """Return whether an array holds floating-point values.

    Small types that NumPy does not know itself count too.
    """
    return bool(np.issubdtype(values.dtype, np.floating)) or values.dtype.name.startswith(
        ("bfloat", "float")
    )


def finite_problem(name: str, values: Shaped[np.ndarray, "..."]) -> str | None:
    """Return a message if a float tensor holds NaN, None otherwise.

    Infinity is legal here: attention masks are made of it.
    """
    if not is_float(values):
        return None
    bad = np.isnan(values.astype(np.float32) if values.dtype.itemsize < 4 else values)
    if not bad.any():
        return None
    first = tuple(int(index) for index in np.argwhere(bad)[0])
    return f"tensor '{name}' must be finite, holds {int(bad.sum())} NaN, first at {list(first)}"


def encode(values: Shaped[np.ndarray, "..."], name: str) -> TensorProto:
    """Return an array as a tensor with raw data."""
    return numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)


def constant_value(attribute: onnx.AttributeProto) -> Shaped[np.ndarray, "..."] | None:
    """Return the value of one of the short attribute forms of Constant, None for others."""
    match attribute.name:
        case "value_float":
            return np.asarray(attribute.f, np.float32)
        case "value_floats":
            return np.asarray(list(attribute.floats), np.float32)
        case "value_int":
            return np.asarray(attribute.i, np.int64)
        case "value_ints":
            return np.asarray(list(attribute.ints), np.int64)
        case "value_string":
            return np.asarray(attribute.s, object)
        case "value_strings":
            return np.asarray(list(attribute.strings), object)
    return None


def type_name(elem_type: int) -> str:
    """Return NumPy's name of an ONNX element type; ``"object"`` becomes ``"str"``."""
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).name
    return "str" if name == "object" else name


def element_bits(elem_type: int) -> int:
    """Return the bits of one element, 64 where the type is unknown or a string."""
    return _BITS.get(elem_type, 64) or 64
