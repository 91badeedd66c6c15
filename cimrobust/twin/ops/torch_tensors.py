"""Reading numbers out of tensors, bringing tensors together on one device, ONNX element types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import torch
from jaxtyping import Int, Int64, Real, Shaped
from onnx import TensorProto, numpy_helper
from torch import Tensor

from cimrobust.twin.ops.converter_registry import CannotConvertError, Settings

FLOATS = {
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
}
INTEGER_RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT4: (-8, 7),
    25: (0, 3),  # UINT2, newer than the oldest onnx we support
    26: (-2, 1),  # INT2
}
TORCH_RANGES = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.uint16: (0, 65535),
    torch.int16: (-32768, 32767),
    torch.int32: (-(2**31), 2**31 - 1),
}
TORCH_TYPES: dict[int, torch.dtype] = {
    TensorProto.BOOL: torch.bool,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT4: torch.int8,
    25: torch.uint8,
    26: torch.int8,
}


def torch_type(onnx_type: int, working: torch.dtype) -> torch.dtype:
    """Return how values of an ONNX element type are held.

    All floating-point types have the working type.
    """
    return TORCH_TYPES.get(onnx_type, working)


def numbers(tensor: Real[Tensor, "..."]) -> list[int]:
    """Return the values of an integer tensor of any rank as a flat list."""
    values: list[int] = (tensor if tensor.dim() == 1 else tensor.reshape(-1)).tolist()
    return values


def shape_tensor(values: Iterable[int]) -> Int64[Tensor, "numbers"]:
    """Return integers as a shape value: int64 on the CPU."""
    return torch.tensor(list(values), dtype=torch.int64)


def on_device_of(
    tensor: Shaped[Tensor, "*shape"], other: Shaped[Tensor, "..."]
) -> Shaped[Tensor, "*shape"]:
    """Return `tensor` where `other` is."""
    return tensor if tensor.device == other.device else tensor.to(other.device)


def together(tensors: Sequence[Shaped[Tensor, "..."]]) -> Sequence[Shaped[Tensor, "..."]]:
    """Move tensors to one device: shape values come from the CPU to where the others are."""
    device = tensors[0].device
    if all(tensor.device == device for tensor in tensors):
        return tensors
    device = next(tensor.device for tensor in tensors if tensor.device.type != "cpu")
    return [tensor.to(device) for tensor in tensors]


def index_of(
    tensor: Real[Tensor, "*shape"], data: Shaped[Tensor, "..."]
) -> Int64[Tensor, "*shape"]:
    """Return indices as int64 on the device of the data they index."""
    return tensor.to(device=data.device, dtype=torch.int64)


def axes_from(
    attribute: Sequence[int] | None, given: Int[Tensor, "..."] | None
) -> list[int] | None:
    """Return axes from the attribute of older opsets or the input of newer ones.

    None where neither is stated.
    """
    if given is not None:
        return numbers(given)
    return None if attribute is None else list(attribute)


def placed(tensor: Shaped[Tensor, "*shape"], settings: Settings) -> Shaped[Tensor, "*shape"]:
    """Return a constant in the working type and place.

    Floats move with the twin, integers of 64 bit stay on the CPU.
    """
    if tensor.is_floating_point():
        return tensor.to(device=settings.device, dtype=settings.dtype)
    return tensor if tensor.dtype == torch.int64 else tensor.to(settings.device)


def to_tensor(proto: onnx.TensorProto) -> Shaped[Tensor, "..."]:
    """Return an ONNX tensor as the twin holds it.

    Every floating-point type as float32, unsigned 32 and 64 bit as int64.

    Raises:
        CannotConvertError: Strings and complex numbers.
    """
    if proto.data_type in (
        onnx.TensorProto.STRING,
        onnx.TensorProto.COMPLEX64,
        onnx.TensorProto.COMPLEX128,
    ):
        raise CannotConvertError(
            f"tensor {proto.name!r} must be numeric, got"
            f" {onnx.TensorProto.DataType.Name(proto.data_type)}"
        )
    array = numpy_helper.to_array(proto)
    held = TORCH_TYPES.get(proto.data_type)
    if held is None:
        return torch.from_numpy(np.array(array, dtype=np.float32))
    wide = np.array(array).astype(np.int64) if array.dtype != np.bool_ else np.array(array)
    return torch.from_numpy(wide).to(held)
