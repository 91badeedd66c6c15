"""Quantisers, with straight-through gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from onnx import TensorProto
from torch import Tensor

from cimrobust.twin.ops.converter_registry import (
    MICROSOFT,
    CannotConvertError,
    Kernel,
    Node,
    Settings,
    operator,
)
from cimrobust.twin.ops.shape_ops import FLOAT8, to_float8
from cimrobust.twin.ops.surrogate import leaky_clamp, round_clamp, rounding_path, surrogate
from cimrobust.twin.ops.torch_tensors import INTEGER_RANGES, TORCH_RANGES


def spread(
    value: Real[Tensor, "..."], x: Real[Tensor, "..."], axis: int, block: int = 0
) -> Real[Tensor, "..."]:
    """Return a scale or zero point in a shape that broadcasts to `x`.

    One value, one per slice along `axis`, or one per block of it.
    """
    if value.dim() == 0 or value.numel() == 1:
        return value.reshape(())
    if value.dim() == 1 and not block:
        view = [1] * x.dim()
        view[axis] = -1
        return value.reshape(view)
    if value.shape == x.shape:
        return value
    size = block or -(-x.shape[axis] // value.shape[axis])
    return value.repeat_interleave(size, axis).narrow(axis, 0, x.shape[axis])


def integer_range(onnx_type: int | None, tensor: Real[Tensor, "..."] | None) -> tuple[int, int]:
    """Return the range of a quantised type.

    As the model declares it, else by how the zero point is held; uint8 by default.
    """
    if onnx_type in INTEGER_RANGES:
        return INTEGER_RANGES[onnx_type]
    return (0, 255) if tensor is None else TORCH_RANGES.get(tensor.dtype, (0, 255))


def to_levels(
    x: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    zero: Real[Tensor, "..."] | None,
    limits: tuple[int, int],
    settings: Settings,
) -> Float[Tensor, "..."]:
    """Quantise: round(x / scale) + zero, clamped.

    Gradients pass straight through, damped outside the range, or see `rounding_path`; softened: not
    rounded.

    Rounds before the zero point is added, as onnxruntime does: half way cases go to even levels,
    and an odd zero point would turn them round.
    """
    levels = x / scale
    if zero is None and settings.width is None and settings.steps is None:
        return round_clamp(levels, *limits, softened=settings.softened)
    shift = levels.new_zeros(()) if zero is None else zero.to(levels.dtype)
    if settings.softened:
        return leaky_clamp(levels + shift, *limits)
    if not (torch.is_grad_enabled() and levels.requires_grad):
        return (levels.round_() + shift).clamp(*limits)
    rounded = surrogate(levels.round(), rounding_path(levels, 0.5, settings)) + shift
    return leaky_clamp(rounded, *limits)


@operator("QuantizeLinear")
@operator("QuantizeLinear", domain=MICROSOFT)
def quantize_linear(node: Node) -> Kernel:
    """QuantizeLinear, all versions: per tensor, axis or block.

    Int and 8 bit floating-point targets.
    """
    axis, block, target = (
        node.get("axis", 1),
        int(node.get("block_size", 0)),
        node.get("output_dtype", 0),
    )
    declared = node.input_types[2] if len(node.input_types) > 2 else None
    kind = declared or target or TensorProto.UINT8
    if kind == TensorProto.FLOAT4E2M1:
        raise CannotConvertError("quantisation to float4e2m1 is not covered")
    saturate = node.get("saturate", 1)

    def run(
        x: Real[Tensor, "*shape"],
        scale: Float[Tensor, "..."],
        zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*shape"]:
        x = x if x.is_floating_point() else x.to(scale.dtype)
        factor = spread(scale, x, axis, block)
        shift = None if zero is None else spread(zero, x, axis, block)
        if kind in FLOAT8:
            return to_float8(x / factor, kind, saturate=bool(saturate))
        limits = integer_range(declared, zero) if zero is not None else INTEGER_RANGES[kind]
        return to_levels(x, factor, shift, limits, settings=node.settings)

    return run


@operator("DequantizeLinear")
@operator("DequantizeLinear", domain=MICROSOFT)
def dequantize_linear(node: Node) -> Kernel:
    """DequantizeLinear, all versions: (x - zero) scale, per tensor, axis or block."""
    axis, block = node.get("axis", 1), int(node.get("block_size", 0))

    def run(
        x: Real[Tensor, "*shape"],
        scale: Float[Tensor, "..."],
        zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*shape"]:
        factor = spread(scale, x, axis, block)
        x = x.to(scale.dtype)
        if zero is not None:
            x = x - spread(zero, x, axis, block).to(scale.dtype)
        return x * factor

    return run


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> Kernel:
    """DynamicQuantizeLinear-11: scale and zero point from the range of the data.

    Both are differentiable where it is not flat.
    """

    def run(
        x: Float[Tensor, "*shape"],
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, ""], Float[Tensor, ""]]:
        low, high = x.amin().clamp(max=0.0), x.amax().clamp(min=0.0)
        scale = (high - low) / 255.0
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        zero = (-low / safe).detach().round().clamp(0, 255)
        return to_levels(x, safe, zero, (0, 255), settings=node.settings), scale, zero

    return run
