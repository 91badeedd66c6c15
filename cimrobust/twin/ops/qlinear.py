"""Products of integers: QLinearConv and its relatives, and those of com.microsoft.

Every one of them is the float operator between DequantizeLinear and QuantizeLinear. Products are
formed on the integers themselves, so the sums are exact up to 2^24 and the rounding is that of the
integer kernels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor

from cimrobust.twin.ops.conv import convolution
from cimrobust.twin.ops.converter_registry import MICROSOFT, Kernel, Node, operator
from cimrobust.twin.ops.quantize import dynamic_quantize_linear, integer_range, to_levels
from cimrobust.twin.ops.sliding_window import Window


def centred(
    x: Real[Tensor, "*shape"],
    zero: Real[Tensor, "..."] | None,
    dtype: torch.dtype,
    view: tuple[int, ...] = (),
) -> Float[Tensor, "..."]:
    """Return integers minus their zero point in a floating-point type.

    `view` is the shape of a zero point per channel.
    """
    x = x.to(dtype)
    if zero is None:
        return x
    zero = zero.to(device=x.device, dtype=dtype)
    return x - (
        zero.reshape(view)
        if zero.numel() > 1 and view
        else zero
        if zero.numel() > 1
        else zero.reshape(())
    )


def restored(
    x: Real[Tensor, "..."],
    scale: Float[Tensor, "..."],
    zero: Real[Tensor, "..."] | None,
) -> Float[Tensor, "..."]:
    """Return what integers stand for."""
    return centred(x, zero, scale.dtype) * scale.reshape(())


def declared(node: Node, index: int) -> int | None:
    """Return the element type of an input, if it is known."""
    return node.input_types[index] if index < len(node.input_types) else None


def quantised(
    node: Node,
    y: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    zero: Real[Tensor, "..."] | None,
    index: int,
) -> Float[Tensor, "..."]:
    """Return numbers as integers; input `index` of the node is their zero point."""
    limits = integer_range(declared(node, index), zero)
    return to_levels(
        y,
        scale.reshape(()),
        None if zero is None else zero.reshape(()),
        limits,
        settings=node.settings,
    )


def _levels(
    node: Node,
    levels: Float[Tensor, "..."],
    unit: Real[Tensor, "..."],
    shift: Real[Tensor, "..."],
    y_zero: Real[Tensor, "..."],
) -> Float[Tensor, "..."]:
    return to_levels(
        levels,
        unit,
        shift,
        integer_range(declared(node, 7), y_zero),
        settings=node.settings,
    )


@operator("QLinearConv")
def qlinear_conv(node: Node) -> Kernel:
    """QLinearConv-10: integer convolution, int32 bias in units of x_scale w_scale."""
    product = convolution(Window.of(node), int(node.get("group", 1)))

    def run(
        x: Real[Tensor, "..."],
        x_scale: Float[Tensor, "..."],
        x_zero: Real[Tensor, "..."],
        w: Real[Tensor, "..."],
        w_scale: Float[Tensor, "..."],
        w_zero: Real[Tensor, "..."],
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."],
        bias: Real[Tensor, "outputs"] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = y_scale.dtype
        total = product(
            centred(x, x_zero, dtype),
            centred(w, w_zero, dtype, (-1, *(1,) * (w.dim() - 1))),
            None if bias is None else bias.to(dtype),
        )
        factor = x_scale.reshape(()) * w_scale / y_scale.reshape(())
        levels = total * factor.reshape(1, -1, *(1,) * (w.dim() - 2))
        return _levels(
            node, levels, torch.ones_like(y_scale.reshape(())), y_zero.reshape(()), y_zero
        )

    return run


def _row_view(value: Real[Tensor, "..."], x: Real[Tensor, "..."]) -> Real[Tensor, "..."]:
    """Give a scale or zero point per row of the left operand its place."""
    return (
        value.unsqueeze(-1)
        if value.dim() == 1 and value.numel() > 1 and value.numel() == x.shape[-2]
        else value
    )


@operator("QLinearMatMul")
def qlinear_matmul(node: Node) -> Kernel:
    """QLinearMatMul-10."""

    def run(
        a: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."],
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."],
    ) -> Float[Tensor, "..."]:
        dtype = y_scale.dtype
        total = torch.matmul(
            a.to(dtype) - _row_view(a_zero, a).to(dtype), b.to(dtype) - b_zero.to(dtype)
        )
        levels = total * (_row_view(a_scale, a) * b_scale / y_scale)
        return _levels(node, levels, torch.ones_like(y_scale.flatten()[0]), y_zero, y_zero)

    return run


@operator("QGemm", domain=MICROSOFT)
def q_gemm(node: Node) -> Kernel:
    """QGemm of com.microsoft: alpha A' B' + C in units of the product scale.

    Floats out where no output scale is given.
    """
    alpha, flip_a, flip_b = node.get("alpha", 1.0), node.get("transA", 0), node.get("transB", 0)

    def run(
        a: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."],
        c: Real[Tensor, "..."] | None = None,
        y_scale: Float[Tensor, "..."] | None = None,
        y_zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = a_scale.dtype
        left = centred(a.t() if flip_a else a, a_zero, dtype)
        right = centred(b, b_zero, dtype, (-1, 1) if flip_b else (1, -1))
        total = left @ (right.t() if flip_b else right)
        if c is not None:
            total = total + c.to(dtype)
        y = total * (alpha * a_scale * b_scale)
        return y if y_scale is None else quantised(node, y, y_scale, y_zero, 8)

    return run


@operator("ConvInteger")
def conv_integer(node: Node) -> Kernel:
    """ConvInteger-10: the int32 sums are held as floating-point numbers."""
    product = convolution(Window.of(node), int(node.get("group", 1)))
    settings = node.settings

    def run(
        x: Real[Tensor, "..."],
        w: Real[Tensor, "..."],
        x_zero: Real[Tensor, "..."] | None = None,
        w_zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = settings.dtype
        weight = centred(w, w_zero, dtype, (-1, *(1,) * (w.dim() - 1)))
        return product(centred(x, x_zero, dtype), weight)  # type: ignore[no-any-return]

    return run


@operator("MatMulInteger")
def matmul_integer(node: Node) -> Kernel:
    """MatMulInteger-10: the int32 sums are held as floating-point numbers."""
    settings = node.settings

    def run(
        a: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        a_zero: Real[Tensor, "..."] | None = None,
        b_zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = settings.dtype
        left, right = a.to(dtype), b.to(dtype)
        if a_zero is not None:
            left = left - _row_view(a_zero, a).to(dtype)
        return torch.matmul(left, right if b_zero is None else right - b_zero.to(dtype))

    return run


@operator("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(node: Node) -> Kernel:
    """MatMulIntegerToFloat of com.microsoft."""

    def run(
        a: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."] | None = None,
        b_zero: Real[Tensor, "..."] | None = None,
        bias: Real[Tensor, "outputs"] | None = None,
    ) -> Float[Tensor, "..."]:
        left = centred(a, a_zero, a_scale.dtype)
        y = torch.matmul(left, centred(b, b_zero, a_scale.dtype, (1, -1))) * (a_scale * b_scale)
        return y if bias is None else y + bias

    return run


@operator("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(node: Node) -> Kernel:
    """DynamicQuantizeMatMul of com.microsoft: the left operand is quantised by its own range."""
    from_range = dynamic_quantize_linear(node)

    def run(
        a: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."] | None = None,
        bias: Real[Tensor, "outputs"] | None = None,
    ) -> Float[Tensor, "..."]:
        levels, a_scale, a_zero = from_range(a)
        y: Float[Tensor, "..."] = torch.matmul(
            levels - a_zero, centred(b, b_zero, a.dtype, (1, -1))
        ) * (a_scale * b_scale)
        return y if bias is None else y + bias

    return run
