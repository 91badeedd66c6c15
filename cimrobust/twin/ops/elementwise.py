"""Element by element: powers, bits, rounding, extrema; `onnx2torch_ops` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from jaxtyping import Real, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator, plain
from cimrobust.twin.ops.onnx2torch_ops import joined
from cimrobust.twin.ops.surrogate import leaking, rounding_path, step_path, surrogate
from cimrobust.twin.ops.torch_tensors import together

Binary = Callable[[Shaped[Tensor, "..."], Shaped[Tensor, "..."]], Shaped[Tensor, "..."]]


def power(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Raise to a power; the result has the type of the base."""
    if (
        b.is_floating_point()
        and not b.requires_grad
        and b.dim() == 0
        and float(b) == 2.0
        and a.is_floating_point()
    ):
        return a * a
    return torch.pow(a, b).to(a.dtype)


plain("Pow", joined(power), since=7)


def _as_integers(function: Callable[..., Shaped[Tensor, "..."]]) -> Kernel:
    """Return a kernel for bits: quantised values held as floats are made integers and back."""

    def run(*values: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        values = tuple(together(values))
        whole = [value.to(torch.int64) if value.is_floating_point() else value for value in values]
        return function(*whole).to(values[0].dtype)

    return run


plain("BitwiseAnd", _as_integers(torch.bitwise_and))
plain("BitwiseOr", _as_integers(torch.bitwise_or))
plain("BitwiseXor", _as_integers(torch.bitwise_xor))


@operator("BitwiseNot")
def bitwise_not(node: Node) -> Kernel:
    """BitwiseNot-18.

    Unsigned types are held in wider signed ones, so bits above theirs are cut off.
    """
    mask = {4: 0xFFFF, 12: 0xFFFFFFFF}.get(node.input_types[0] or 0, -1)
    return _as_integers(lambda x: torch.bitwise_not(x) & mask)


@operator("BitShift", since=11)
def bit_shift(node: Node) -> Kernel:
    """BitShift-11: shift unsigned integers; bits that leave the type are lost."""
    bits = {2: 8, 4: 16, 12: 32, 13: 63}.get(node.input_types[0] or 0, 63)
    left = node.get("direction") == "LEFT"

    def shift(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        wide = a.to(torch.int64)
        moved = (
            torch.bitwise_left_shift(wide, b.to(torch.int64))
            if left
            else torch.bitwise_right_shift(wide, b.to(torch.int64))
        )
        return moved & ((1 << bits) - 1)

    return _as_integers(shift)


for _name, _unary in {
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "IsNaN": torch.isnan,
    "Det": torch.linalg.det,
}.items():
    plain(_name, _unary)


@operator("IsInf")
def is_inf(node: Node) -> Kernel:
    """IsInf: either sign may be left out."""
    positive, negative = bool(node.get("detect_positive", 1)), bool(node.get("detect_negative", 1))

    def run(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        infinite = torch.isinf(x)
        if not positive:
            infinite = infinite & (x < 0)
        return infinite if negative else infinite & (x > 0)

    return run


def _stepwise(
    function: Callable[[Shaped[Tensor, "..."]], Shaped[Tensor, "..."]], offset: float, node: Node
) -> Kernel:
    settings = node.settings

    def run(x: Real[Tensor, "*shape"]) -> Real[Tensor, "*shape"]:
        if settings.softened:
            return x
        value = function(x)
        if not (settings.straight_through and torch.is_grad_enabled() and x.requires_grad):
            return value
        return surrogate(value, rounding_path(x, offset, settings))

    return run


operator("Round")(lambda node: _stepwise(torch.round, 0.5, node))
operator("Floor")(lambda node: _stepwise(torch.floor, 0.0, node))
operator("Ceil")(lambda node: _stepwise(torch.ceil, 0.0, node))


@operator("Sign")
def sign(node: Node) -> Kernel:
    """Sign; straight through, see `step_path`."""
    settings = node.settings

    def run(x: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        if settings.softened and x.is_floating_point():
            return leaking(x.clamp(-1, 1), x)
        value = torch.sign(x)
        if not (settings.straight_through and torch.is_grad_enabled() and x.requires_grad):
            return value
        return surrogate(value, step_path(x, settings))

    return run


def _folded(
    function: Binary,
    finish: Callable[[Shaped[Tensor, "..."], int], Shaped[Tensor, "..."]] | None = None,
) -> Kernel:
    def run(*values: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        total = reduce(function, together(values))
        return total if finish is None else finish(total, len(values))

    return run


plain("Sum", _folded(torch.add))
plain("Max", _folded(torch.maximum))
plain("Min", _folded(torch.minimum))
plain("Mean", _folded(torch.add, lambda total, count: total / count))


@operator("Clip", until=10)
def clip_6(node: Node) -> Kernel:
    """Clip-6: bounds are attributes."""
    low, high = node.get("min"), node.get("max")
    if low is None and high is None:
        return lambda x: x
    if low == 0.0 and high is None:
        return torch.relu
    return lambda x: _perhaps_leaking(node, torch.clamp(x, low, high), x)


@operator("Clip", since=11)
def clip_11(node: Node) -> Kernel:
    """Clip-11: bounds are inputs, each of which may be left out or computed."""

    def run(
        x: Real[Tensor, "*shape"],
        low: Real[Tensor, ""] | Real[Tensor, "1"] | None = None,
        high: Real[Tensor, ""] | Real[Tensor, "1"] | None = None,
    ) -> Real[Tensor, "*shape"]:
        if low is None and high is None:
            return x
        bounds = [bound for bound in (low, high) if bound is not None]
        # Reading a number off an accelerator would make the host wait for it, and a bound may carry
        # a gradient.
        if any(bound.requires_grad or bound.device.type != "cpu" for bound in bounds):
            value = x if low is None else torch.maximum(x, low.to(device=x.device, dtype=x.dtype))
            value = (
                value
                if high is None
                else torch.minimum(value, high.to(device=x.device, dtype=x.dtype))
            )
        else:
            value = torch.clamp(
                x, None if low is None else low.item(), None if high is None else high.item()
            )
        return _perhaps_leaking(node, value, x)

    return run


def _perhaps_leaking(
    node: Node, value: Real[Tensor, "*shape"], x: Real[Tensor, "*shape"]
) -> Real[Tensor, "*shape"]:
    return leaking(value, x) if node.settings.softened and x.is_floating_point() else value


@operator("Add", "Sub", "Mul", "Div", "Pow", until=6)
def no_legacy_broadcast(node: Node) -> Kernel:
    """Arithmetic before opset 7 broadcasts by attribute."""
    raise CannotConvertError("broadcasting by attribute (opset 6 and older) is not covered")
