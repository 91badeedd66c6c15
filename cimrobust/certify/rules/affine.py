"""Digital operators that are affine in their activations.

Moving elements, averages, sums, scaling, normalisation with fixed statistics.

Derived here, as in LiRPA (Xu et al., NeurIPS 2020) for linear nodes: with ``y = M x + b``, a form A
on y is ``(A M) x + A b``, so nothing is lost. ``A M`` is the vector-Jacobian product of the kernel,
the same at every x, and b its value at 0. Intervals: an operator that never falls in any input has
its extremes where all inputs are at one end (Moore, Interval analysis, 1966).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import MOST_FLOAT32, mean_radius, product_radius, value_radius
from cimrobust.certify.rules.rule import Pulled, Value, total_counted
from cimrobust.twin.ops.converter_registry import Kernel, Node

#: Operators that keep every element, once.
_ONE_TO_ONE = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
#: Those of them that change the shape alone, if anything.
_IN_ORDER = _ONE_TO_ONE - {"Transpose"}
#: Element types of ONNX that hold every float32: float and double.
_AT_LEAST_FLOAT32 = (1, 11)
#: All element types of ONNX of 16 bits and more that are no integers.
FLOAT_TYPES = frozenset({1, 10, 11, 16})


@dataclass(frozen=True)
class Affine:
    """An affine operator, given by its kernel; the backward pass is the kernel's own transpose.

    Attributes:
        kernel: Computes the operator.
        interval: Bounds its output from those of its inputs.
        is_in_order: Its output is its first input in another shape at most.
    """

    kernel: Kernel
    interval: Callable[[Kernel, Sequence[Value]], Interval]
    is_in_order: bool = False

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        return self.interval(self.kernel, inputs)

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        if self.is_in_order:
            # The transpose is the same reshaping; autograd would load a compiler to find that.
            source = inputs[0]
            assert isinstance(source, Interval)
            coefs = (form.reshape(len(form), *source.lo.shape), *(None for _ in inputs[1:]))
            return Pulled(coefs, torch.zeros(form.shape[:2], dtype=form.dtype))
        with torch.enable_grad():
            zeros = [
                (
                    torch.zeros_like(value.lo, requires_grad=True)
                    if isinstance(value, Interval)
                    else value
                )
                for value in inputs
            ]
            made = self.kernel(*zeros)
            leaves = [
                zero
                for zero, value in zip(zeros, inputs, strict=True)
                if isinstance(zero, Tensor) and isinstance(value, Interval)
            ]
            grads = iter(
                torch.autograd.grad(
                    made, leaves, form, is_grads_batched=True, create_graph=form.requires_grad
                )
            )
        pulled = tuple(next(grads) if isinstance(value, Interval) else None for value in inputs)
        return Pulled(pulled, total_counted(form, made.detach()))


def move(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of an operator that moves elements and rounds nothing."""
    return Affine(
        kernel, _rearranged if node.op in _ONE_TO_ONE else _monotone, node.op in _IN_ORDER
    )


def keep(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of an operator that turns out to do nothing."""
    return Affine(kernel, _rearranged, is_in_order=True)


def widen(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of a Cast of stored weights, which a chip holds in float32, or of integers.

    Of weights exact, where the type is not narrower. Integers are rounded once.
    """
    if node.get("to") not in _AT_LEAST_FLOAT32:
        raise CannotBoundError("it rounds to a narrower type than float32")
    source = node.input_types[0] if node.input_types else None
    return keep(node, kernel) if source in FLOAT_TYPES else _rounded_once(kernel)


def recast(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of a Cast of activations between float and double, which rounds once.

    Raises:
        CannotBoundError: Another type is involved.
    """
    source = node.input_types[0] if node.input_types else None
    if not {source, node.get("to")} <= set(_AT_LEAST_FLOAT32):
        raise CannotBoundError("it changes the type of activations")

    return _rounded_once(kernel)


def _rounded_once(kernel: Kernel) -> Affine:
    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        ends = run(*[_end(value, 0) for value in inputs]), run(*[_end(v, 1) for v in inputs])
        made = Interval(*ends)
        return Interval.rounded(made.lo, made.hi, value_radius(made.magnitude))

    return Affine(kernel, bounded, is_in_order=True)


def average(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of an operator that sums elements with weights that are not negative."""
    # Windows that overlap have more elements than there are elements for each window.
    taps = math.prod(node.get("kernel_shape") or ())

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        exact = _monotone(run, inputs)
        source = inputs[0]
        assert isinstance(source, Interval)
        apart = max(source.lo[0].numel() // max(exact.lo[0].numel(), 1), 1)
        terms = max(apart, taps) * 4
        magnitude = run(source.magnitude, *inputs[1:])
        made = Interval.rounded(exact.lo, exact.hi, mean_radius(magnitude.abs(), terms))
        # No sum of numbers that are not negative is, in whatever order it is taken.
        return replace(made, lo=made.lo.clamp(min=0.0)) if source.is_nonnegative else made

    return Affine(kernel, bounded)


def running_sum(node: Node, kernel: Kernel) -> Affine:
    """CumSum along a constant axis: sums of up to as many elements as the axis is long."""

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        source = inputs[0]
        assert isinstance(source, Interval)
        if any(isinstance(value, Interval) for value in inputs[1:]):
            raise CannotBoundError("its axis is not constant")
        exact, size = _monotone(run, inputs), run(source.magnitude, *inputs[1:])
        return Interval.rounded(exact.lo, exact.hi, product_radius(size, max(size.shape)))

    return Affine(kernel, bounded)


def beside(node: Node, kernel: Kernel) -> Affine:
    """Return the rule of the sums over neighbouring channels in an LRN, which is given squares.

    Engines go from channel to channel, adding a square and taking another away, so that a sum has
    the roundings of all before it: two a channel, of numbers up to the largest sum and a square.
    """
    factor = float(node.get("alpha")) / int(node.get("size"))

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        source = inputs[0]
        assert isinstance(source, Interval)
        exact = _monotone(run, inputs)
        largest = run(source.magnitude).abs() + factor * source.magnitude
        most = largest.flatten(1).amax(1).reshape(-1, *(1,) * (largest.dim() - 1))
        terms = 2 * max(exact.lo.shape[1:]) + 2 * int(node.get("size"))
        return Interval.rounded(exact.lo, exact.hi, product_radius(most.expand_as(largest), terms))

    return Affine(kernel, bounded)


def add(node: Node, kernel: Kernel) -> Affine:
    """Add."""
    return Affine(kernel, _sum(1))


def subtract(node: Node, kernel: Kernel) -> Affine:
    """Sub."""
    return Affine(kernel, _sum(-1))


def scale(node: Node, kernel: Kernel) -> Affine:
    """Mul and Div by something known, Neg.

    Raises:
        CannotBoundError: Found while bounding: both factors are activations, or an activation
            divides.
    """

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        ends = [run(*[_end(value, side) for value in inputs]) for side in (0, 1)]
        lo, hi = torch.minimum(*ends), torch.maximum(*ends)
        return Interval.rounded(lo, hi, value_radius(torch.maximum(lo.abs(), hi.abs())))

    return Affine(kernel, bounded)


def normalise(node: Node, kernel: Kernel) -> Affine:
    """BatchNormalization with fixed statistics: y = g (x - mean) + shift."""
    if node.get("training_mode", 0) or any(node.wants(index) for index in range(1, 5)):
        raise CannotBoundError("it computes statistics of the batch")

    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        source, gain, shift, mean, variance = inputs[:5]
        if not isinstance(source, Interval) or not all(
            isinstance(value, Tensor) for value in (gain, shift, mean, variance)
        ):
            raise CannotBoundError("its parameters are not constant")
        ends = run(source.lo, *inputs[1:]), run(source.hi, *inputs[1:])
        # The same operator on magnitudes: |g| (|x| + |mean|) + |shift|.
        magnitude = run(source.magnitude, gain.abs(), shift.abs(), -mean.abs(), variance)  # type: ignore[union-attr]
        return Interval.rounded(torch.minimum(*ends), torch.maximum(*ends), value_radius(magnitude))

    return Affine(kernel, bounded)


def _end(value: Value, side: int) -> Shaped[Tensor, "..."] | None:
    return (value.lo, value.hi)[side] if isinstance(value, Interval) else value


def _monotone(run: Kernel, inputs: Sequence[Value]) -> Interval:
    lo = run(*[_end(value, 0) for value in inputs])
    if all(value.is_point for value in inputs if isinstance(value, Interval)):
        return Interval.point(lo)
    return Interval(lo, run(*[_end(value, 1) for value in inputs]))


def _rearranged(run: Kernel, inputs: Sequence[Value]) -> Interval:
    made = _monotone(run, inputs)
    return made if made.is_point else replace(made, corners=_moved_corners(run, inputs))


def _moved_corners(
    run: Kernel, inputs: Sequence[Value]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]] | None:
    """Return the corners of a tensor that is moved or shifted by constants."""
    moving = [value for value in inputs if isinstance(value, Interval)]
    if len(moving) != 1 or moving[0].corners is None:
        return None
    if run(*[_end(value, 0) for value in inputs]).numel() != moving[0].lo.numel():
        return None
    low, high = (
        run(*[end if isinstance(value, Interval) else value for value in inputs])
        for end in moving[0].corners
    )
    return low, high


def _sum(sign: int) -> Callable[[Kernel, Sequence[Value]], Interval]:
    def bounded(run: Kernel, inputs: Sequence[Value]) -> Interval:
        first, second = inputs[0], inputs[1]
        lo = run(_end(first, 0), _end(second, 0 if sign > 0 else 1))
        hi = run(_end(first, 1), _end(second, 1 if sign > 0 else 0))
        # Masks that are added up may leave the range of float32: they stay masks.
        beyond = hi < -MOST_FLOAT32
        lo, hi = lo.masked_fill(beyond, -math.inf), hi.masked_fill(beyond, -math.inf)
        magnitude = _magnitude(first) + _magnitude(second)
        rounding = value_radius(magnitude.expand_as(lo))
        made = Interval.rounded(lo, hi, rounding)
        corners = _moved_corners(run, inputs) if sign > 0 else None
        if corners is None or made.rounding is None:
            return made
        return replace(made, corners=(corners[0] + made.rounding, corners[1] - made.rounding))

    return bounded


def _magnitude(value: Value) -> Float[Tensor, "..."]:
    assert value is not None
    return value.magnitude if isinstance(value, Interval) else value.abs()
