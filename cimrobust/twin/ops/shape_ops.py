"""Shapes and types: Shape, Reshape, Transpose, Squeeze, Expand, Cast and the like."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from onnx import TensorProto
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator, plain
from cimrobust.twin.ops.surrogate import surrogate
from cimrobust.twin.ops.torch_tensors import (
    FLOATS,
    INTEGER_RANGES,
    axes_from,
    numbers,
    shape_tensor,
    torch_type,
)

plain("Identity", lambda x: x)


@operator("Shape")
def shape(node: Node) -> Kernel:
    """Shape, with the slice of opset 15."""
    start, end = node.get("start", 0), node.get("end")
    return lambda x: shape_tensor(list(x.shape)[start:end])


@operator("Size")
def size(node: Node) -> Kernel:
    """Size: number of elements."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape", since=5)
def reshape(node: Node) -> Kernel:
    """Reshape-5: 0 keeps an axis unless allowzero."""
    keep_zero = node.get("allowzero", 0)

    def run(x: Shaped[Tensor, "..."], target: Int[Tensor, "axes"]) -> Shaped[Tensor, "..."]:
        dims = numbers(target)
        if not keep_zero and 0 in dims:
            dims = [x.shape[index] if dim == 0 else dim for index, dim in enumerate(dims)]
        return x.reshape(dims)

    return run


@operator("Reshape", until=4)
def reshape_1(node: Node) -> Kernel:
    """Reshape-1: the shape is an attribute."""
    dims = list(node.get("shape"))
    return lambda x: x.reshape(
        [x.shape[index] if dim == 0 else dim for index, dim in enumerate(dims)]
    )


@operator("Flatten")
def flatten(node: Node) -> Kernel:
    """Flatten: to a matrix, split before `axis`."""
    axis = node.get("axis", 1)

    def run(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "rows columns"]:
        if axis == 1 and x.dim() > 1:
            return x.flatten(1)
        split = axis + x.dim() if axis < 0 else axis
        rows = 1
        for length in x.shape[:split]:
            rows *= length
        return x.reshape(rows, x.numel() // rows if rows else -1)

    return run


@operator("Squeeze")
def squeeze(node: Node) -> Kernel:
    """Squeeze: axes by attribute before 13, as an input from then on.

    All of length one where not stated.
    """
    stated = node.get("axes")

    def run(
        x: Shaped[Tensor, "..."], given: Int[Tensor, "..."] | None = None
    ) -> Shaped[Tensor, "..."]:
        axes = axes_from(stated, given)
        return x.squeeze() if axes is None else x.squeeze(tuple(axes))

    return run


@operator("Unsqueeze")
def unsqueeze(node: Node) -> Kernel:
    """Unsqueeze: axes count in the result; attribute before 13, input from then on."""
    stated = node.get("axes")

    def run(
        x: Shaped[Tensor, "..."], given: Int[Tensor, "..."] | None = None
    ) -> Shaped[Tensor, "..."]:
        axes = axes_from(stated, given) or []
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


@operator("Expand")
def expand(node: Node) -> Kernel:
    """Expand: broadcast to a shape, in both directions."""

    def run(x: Shaped[Tensor, "..."], target: Int[Tensor, "axes"]) -> Shaped[Tensor, "..."]:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(numbers(target))))  # type: ignore[no-untyped-call]

    return run


@operator("Split")
def split(node: Node) -> Kernel:
    """Split: sizes by attribute before 13 or input.

    Equal parts otherwise, the last one smaller from opset 18 on.
    """
    axis, stated = node.get("axis", 0), node.get("split")
    count = node.get("num_outputs") or len(node.outputs)

    def run(
        x: Shaped[Tensor, "..."], given: Int[Tensor, "parts"] | None = None
    ) -> tuple[Shaped[Tensor, "..."], ...]:
        sizes = axes_from(stated, given)
        if sizes is None:
            part = -(-x.shape[axis] // count)
            sizes = [part] * (count - 1) + [x.shape[axis] - part * (count - 1)]
        return torch.split(x, sizes, axis)

    return run


def cast_to(x: Shaped[Tensor, "*shape"], to: int, node: Node) -> Shaped[Tensor, "*shape"]:
    """Return a tensor as an ONNX type: see `registry` for how types are held.

    8 and 16 bit integers made from floating-point numbers stay floating-point tensors that hold
    integers, wrapped to the range.
    """
    working = node.settings.dtype
    if to in FLOATS:
        return x if x.dtype == working else x.to(working)
    if to in INTEGER_RANGES and to != TensorProto.INT32 and x.is_floating_point():
        low, high = INTEGER_RANGES[to]
        value = torch.remainder(x.trunc() - low, high - low + 1) + low
        return surrogate(value, x) if node.settings.straight_through else value
    if to in FLOAT8:
        return to_float8(x.to(working), to, saturate=bool(node.get("saturate", 1)))
    if to in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise NotImplementedError(f"cast to {TensorProto.DataType.Name(to)}")
    held = torch_type(to, working)
    return x if x.dtype == held else x.to(held)


FLOAT8: dict[int, torch.dtype] = {
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
}


def to_float8(x: Float[Tensor, "*shape"], kind: int, *, saturate: bool) -> Float[Tensor, "*shape"]:
    """Round to a type of 8 bit, straight through.

    Values outside its range become its largest, or infinite or NaN without `saturate`.
    """
    small = FLOAT8[kind]
    limit = torch.finfo(small).max
    value = (
        (torch.where(x.isnan(), x, x.clamp(-limit, limit)) if saturate else x).to(small).to(x.dtype)
    )
    return surrogate(value, x)


@operator("Cast", since=6)
def cast(node: Node) -> Kernel:
    """Cast-6."""
    to = int(node.get("to"))
    return lambda x: cast_to(x, to, node)


@operator("CastLike")
def cast_like(node: Node) -> Kernel:
    """CastLike-15: to the declared type of the second input, else to that it is held in."""
    declared = node.input_types[1]

    def run(x: Shaped[Tensor, "*shape"], like: Shaped[Tensor, "..."]) -> Shaped[Tensor, "*shape"]:
        return x.to(like.dtype) if declared is None else cast_to(x, declared, node)

    return run


@operator("Dropout")
def dropout(node: Node) -> Kernel:
    """Dropout at inference: the input, and a mask of ones where it is asked for."""

    def run(
        x: Shaped[Tensor, "..."],
        ratio: Shaped[Tensor, "..."] | None = None,
        training: Shaped[Tensor, "..."] | None = None,
    ) -> Shaped[Tensor, "..."] | tuple[Shaped[Tensor, "..."], Shaped[Tensor, "..."]]:
        if training is not None and bool(training) and (ratio is None or float(ratio) > 0):
            raise NotImplementedError("Dropout in training mode is random")
        return (x, torch.ones_like(x, dtype=torch.bool)) if node.wants(1) else x

    return run
