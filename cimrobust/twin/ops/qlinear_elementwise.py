"""Operators on integers that multiply no matrices: QLinearAdd and its relatives of com.microsoft.

Every one of them is the float operator between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Real, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import MICROSOFT, Kernel, Node, operator
from cimrobust.twin.ops.pool import average_pool
from cimrobust.twin.ops.qlinear import centred, declared, quantised, restored
from cimrobust.twin.ops.quantize import integer_range
from cimrobust.twin.ops.surrogate import round_clamp
from cimrobust.twin.ops.torch_tensors import together


def fused_multiply_add(
    a: Float[Tensor, "..."], b: Float[Tensor, "..."], c: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """Return a b + c; in float32 with one rounding, as the vector instruction does it."""
    if c.dtype != torch.float32:
        return a * b + c
    return (a.double() * b.double() + c.double()).float()


@operator("QLinearAdd", domain=MICROSOFT)
def qlinear_add(node: Node) -> Kernel:
    """QLinearAdd of com.microsoft, in the order of operations of onnxruntime's kernel.

    Mlas/lib/qladd.cpp.

    Integers make halfway cases frequent, so the order decides the level. The zero point takes part
    in the rounding.
    """

    def run(
        a: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."] | None,
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."] | None,
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = y_scale.dtype
        a_ratio, b_ratio = (a_scale / y_scale).reshape(()), (b_scale / y_scale).reshape(())
        a_shift, b_shift, y_shift = (
            torch.zeros_like(a_ratio) if zero is None else zero.to(dtype).reshape(())
            for zero in (a_zero, b_zero, y_zero)
        )
        fixed = y_shift - (a_ratio * a_shift + b_ratio * b_shift)
        value = fused_multiply_add(
            a.to(dtype), a_ratio, fused_multiply_add(b.to(dtype), b_ratio, fixed)
        )
        return round_clamp(
            value, *integer_range(declared(node, 7), y_zero), softened=node.settings.softened
        )

    return run


@operator("QLinearMul", domain=MICROSOFT)
def qlinear_mul(node: Node) -> Kernel:
    """QLinearMul of com.microsoft; the zero point takes part in the rounding."""

    def run(
        a: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."] | None,
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."] | None,
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        dtype = y_scale.dtype
        ratio = (a_scale * b_scale / y_scale).reshape(())
        shift = torch.zeros_like(ratio) if y_zero is None else y_zero.to(dtype).reshape(())
        value = centred(a, a_zero, dtype) * centred(b, b_zero, dtype) * ratio + shift
        return round_clamp(
            value, *integer_range(declared(node, 7), y_zero), softened=node.settings.softened
        )

    return run


def _qlinear_unary(
    name: str, make: Callable[[Node], Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]]
) -> None:
    """Register an operator of com.microsoft with inputs X and Y, each with scale and zero point."""

    def convert(node: Node) -> Kernel:
        function = make(node)

        def run(
            x: Real[Tensor, "..."],
            x_scale: Float[Tensor, "..."],
            x_zero: Real[Tensor, "..."] | None,
            y_scale: Float[Tensor, "..."],
            y_zero: Real[Tensor, "..."] | None = None,
        ) -> Float[Tensor, "..."]:
            return quantised(node, function(restored(x, x_scale, x_zero)), y_scale, y_zero, 4)

        return run

    operator(name, domain=MICROSOFT)(convert)


def _leaky(node: Node) -> Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]:
    alpha = node.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


def _softmax(node: Node) -> Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]:
    axis, coerced = node.get("axis", -1), int(node.get("opset", 13)) < 13

    def run(x: Real[Tensor, "..."]) -> Float[Tensor, "*shape"]:
        return (
            torch.softmax(x.flatten(axis % x.dim()), -1).reshape(x.shape)
            if coerced
            else torch.softmax(x, axis)
        )

    return run


def _global_average(node: Node) -> Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]:
    last = bool(node.get("channels_last", 0))
    return lambda x: x.mean(
        tuple(range(1, x.dim() - 1) if last else range(2, x.dim())), keepdim=True
    )


def _average(node: Node) -> Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]:
    pool = average_pool(node)
    last = bool(node.get("channels_last", 0))
    return lambda x: pool(x.movedim(-1, 1)).movedim(1, -1) if last else pool(x)


def _reduce_mean(node: Node) -> Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]:
    axes, keep = node.get("axes"), bool(node.get("keepdims", 1))
    return lambda x: x.mean(tuple(axes or range(x.dim())), keepdim=keep)


_qlinear_unary("QLinearSigmoid", lambda node: torch.sigmoid)
_qlinear_unary("QLinearLeakyRelu", _leaky)
_qlinear_unary("QLinearSoftmax", _softmax)
_qlinear_unary("QLinearGlobalAveragePool", _global_average)
_qlinear_unary("QLinearAveragePool", _average)
_qlinear_unary("QLinearReduceMean", _reduce_mean)


@operator("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(node: Node) -> Kernel:
    """QLinearConcat of com.microsoft: Y_scale, Y_zero_point, then three inputs a part."""
    axis = int(node.get("axis", 1))

    def run(
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."],
        *rest: Real[Tensor, "..."],
    ) -> Float[Tensor, "..."]:
        parts = [restored(*rest[index : index + 3]) for index in range(0, len(rest), 3)]
        return quantised(node, torch.cat(list(together(parts)), axis), y_scale, y_zero, 1)

    return run


@operator("QLinearWhere", domain=MICROSOFT)
def qlinear_where(node: Node) -> Kernel:
    """QLinearWhere of com.microsoft."""

    def run(
        condition: Shaped[Tensor, "..."],
        a: Real[Tensor, "..."],
        a_scale: Float[Tensor, "..."],
        a_zero: Real[Tensor, "..."],
        b: Real[Tensor, "..."],
        b_scale: Float[Tensor, "..."],
        b_zero: Real[Tensor, "..."],
        y_scale: Float[Tensor, "..."],
        y_zero: Real[Tensor, "..."],
    ) -> Float[Tensor, "..."]:
        y = torch.where(condition, restored(a, a_scale, a_zero), restored(b, b_scale, b_zero))
        return quantised(node, y, y_scale, y_zero, 8)

    return run
