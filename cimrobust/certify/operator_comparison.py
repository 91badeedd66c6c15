"""One run of onnxruntime against exact arithmetic, operator by operator.

Every operator is computed again in float64 from the inputs that onnxruntime itself gave it, so that
a difference is the operator's own. Levels and their sums are whole numbers below 2^53, so products
of integers are exact here. What float32 may be off is derived, never measured
(`certify.rounding`): a sum of n products by ``gamma(n + 8) sum |w a|``; a quantiser gives the level
on either side only where the exact value is within `_STEP_ROUNDINGS` roundings of a half. Operators
between a DequantizeLinear and the next quantiser, which onnxruntime fuses, are bounded together.

Sound: the limits are those of any order of summation (Higham, Accuracy and stability of numerical
algorithms, 2nd ed., 3.5), so what is beyond them is no rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import UNIT_FLOAT32, gamma, product_radius, value_radius
from cimrobust.certify.rules.bilinear import product_of_activations
from cimrobust.certify.rules.rule_table import RULES, SHAPE_OPS
from cimrobust.engine.arithmetic_findings import Arithmetic, WrongTensor, not_compared
from cimrobust.errors import CimrobustError

if TYPE_CHECKING:
    from cimrobust.twin.ops.twin_step import Step
    from cimrobust.twin.to_torch import Twin

#: Roundings between an exact sum and the level that it becomes: of scales and their quotient, of
#: the sum in float32, of the product, of the zero point.
_STEP_ROUNDINGS = 32
_TINY = 1e-300
#: Largest relative error of rounding to float16, of a number that rounded to the one that is known,
#: and the largest absolute one of small numbers.
_UNIT_FLOAT16, _LEAST_FLOAT16 = 2.0**-11 / (1.0 - 2.0**-11), 2.0**-25
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_EXACT = frozenset({"MatMulInteger", "ConvInteger"})
_LEVEL_PRODUCTS = frozenset(
    {"MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm"}
)
#: What stands between a product and its quantiser without being computed in another way where it is
#: fused.
_BEHIND_PRODUCTS = frozenset({"Relu", "Clip", "QuantizeLinear"})
#: Operators that give levels and round once, from a value that their converter gives without the
#: last rounding.
_REQUANTISERS = frozenset(
    {
        *(
            "QuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "QLinearAdd",
            "QLinearMul",
            "QLinearConcat",
            "QLinearWhere",
        ),
        *("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu"),
    }
)
#: Scales of the inputs and of the output, by operator; the largest intermediate value in levels
#: follows from them.
_SCALES: Mapping[str, tuple[tuple[int, ...], int]] = {
    "QLinearAdd": ((1, 4), 6),
    "QLinearMul": ((1, 4), 6),
}


class _Unknown:
    """A value that nothing is derived about."""


_UNKNOWN = _Unknown()


class Comparison:
    """One run, compared step by step."""

    def __init__(
        self,
        twin: Twin,
        output: str,
        feed: Mapping[str, Shaped[np.ndarray, "..."]],
        given: Mapping[str, Shaped[np.ndarray, "..."]],
    ) -> None:
        """Take a run.

        Args:
            twin: The network in float64.
            output: Output that decisions are read from.
            feed: What was given to onnxruntime, by graph input.
            given: What onnxruntime gave, by name: inner tensors and outputs. Constants among them
                are taken as it gave them.
        """
        self._twin, self._output, self._given = twin, output, given
        constants = twin.constants()
        self._values: dict[str, Any] = {"": None, **constants}
        for name in given.keys() & constants.keys():
            self._values[name] = torch.from_numpy(np.array(given[name], np.float64))
        self._known = set(self._values)
        for name, array in feed.items():
            self._values[name] = _point(array)
        self._compared, self._share = 0, 0.0
        self._wrong: list[WrongTensor] = []
        self._of_products: set[str] = set()
        self._left_out: Counter[str] = Counter()

    def result(self, num_samples: int) -> Arithmetic:
        """Return what came of comparing every operator in front of the output.

        Args:
            num_samples: Samples of the run.

        Raises:
            CimrobustError: The float64 form does not run on these values; RuntimeError likewise.
        """
        for step in self._twin.steps_to(self._output):
            try:
                made = self._made(step)
            except (
                CannotBoundError,
                CimrobustError,
                RuntimeError,
                IndexError,
                ValueError,
                AssertionError,
                TypeError,
            ):
                # Rules are written for floats with samples first; one that does not fit leaves the
                # operator out.
                made = None
            if made is None:
                self._left_out[step.node.op] += 1
            if self._is_product(step):
                self._of_products |= set(step.node.outputs)
            for index, name in enumerate(step.node.outputs):
                if name in self._given:
                    self._values[name] = _point(self._given[name])
                elif name:
                    self._values[name] = (
                        made if isinstance(made, Interval | Tensor) and not index else _UNKNOWN
                    )
        left_out = tuple(sorted(self._left_out.items()))
        if not self._compared:
            return not_compared(
                f"no limit is derived for {', '.join(op for op, _ in left_out) or 'any operator'}"
            )
        return Arithmetic(num_samples, self._compared, self._share, tuple(self._wrong), left_out)

    def _is_product(self, step: Step) -> bool:
        """Return whether a node multiplies levels, or only adjusts such products.

        It adjusts them if it only cuts them off or adds to them before they are levels again.
        """
        node = step.node
        if node.op in _LEVEL_PRODUCTS or node.op in _PRODUCTS:
            return True
        return (
            node.op in _BEHIND_PRODUCTS
            and bool(node.inputs)
            and node.inputs[0] in self._of_products
        )

    def _made(self, step: Step) -> Any:
        """Return the value of the first output, compared if onnxruntime gave it.

        None: nothing is derived.
        """
        node = step.node
        read = [self._values.get(name, _UNKNOWN) for name in (*node.inputs, *node.captures)]
        if any(value is _UNKNOWN for value in read):
            return None
        if node.op in SHAPE_OPS or not any(isinstance(value, Interval) for value in read):
            return step.kernel(
                *[value.lo if isinstance(value, Interval) else value for value in read]
            )
        # Between quantisers it is QLinearSoftmax, whose table of exponentials errs in its own way.
        before = self._twin.node_of(node.inputs[0]) if node.op == "Softmax" else None
        if before is not None and before.op == "DequantizeLinear":
            return None
        if node.op in _EXACT:
            return self._exact(step, read)
        if node.op in _REQUANTISERS or (node.op == "QGemm" and node.has(7)):
            if node.outputs[0] not in self._given:
                return None
            return self._requantised(step, read)
        if node.op == "DynamicQuantizeLinear":
            return self._dynamic(step, read)
        made = _bounded(step, read)
        if made is not None and node.outputs[0] in self._given:
            made = _as_stored(made, self._given[node.outputs[0]].dtype)
            self._compare(step, made.lo, made.hi, is_integer=False)
        return made

    def _exact(self, step: Step, read: Sequence[Any]) -> Interval:
        expected = step.kernel(*_points(read))
        self._compare(step, expected, expected, is_integer=True)
        return Interval.point(expected)

    def _requantised(self, step: Step, read: Sequence[Any]) -> Interval | _Unknown:
        lo = self._unrounded(step, _ends(read, 0))
        hi = (
            lo
            if all(value.is_point for value in read if isinstance(value, Interval))
            else self._unrounded(step, _ends(read, 1))
        )
        lo, hi = (lo, hi) if lo is hi else (torch.minimum(lo, hi), torch.maximum(lo, hi))
        slack = gamma(_STEP_ROUNDINGS, UNIT_FLOAT32) * (
            float(torch.maximum(lo.abs().max(), hi.abs().max())) + self._largest(step, read)
        )
        # A level within half a step of a value that is anywhere between the two; ends of the range
        # are clamped in the values already.
        self._compare(
            step,
            torch.ceil(lo - (slack + 0.5)),
            torch.floor(hi + (slack + 0.5)),
            is_integer=True,
            middle=0.5 * (lo + hi),
        )
        return _UNKNOWN

    def _largest(self, step: Step, read: Sequence[Any]) -> float:
        """Return the largest value in levels that is rounded on the way to a level."""
        levels: float = 2.0 * 2.0 ** (8 * self._given[step.node.outputs[0]].dtype.itemsize)
        places = _SCALES.get(step.node.op)
        if places is None:
            return levels
        first, second, target = (
            float(_points([read[place]])[0]) for place in (*places[0], places[1])
        )
        if step.node.op == "QLinearAdd":
            return levels * (1.0 + (first + second) / target)
        return levels * (1.0 + first * second * 255.0 / target)

    def _unrounded(self, step: Step, inputs: Sequence[Any]) -> Float64[Tensor, "..."]:
        self._twin.softened = True
        try:
            return torch.as_tensor(step.kernel(*inputs))
        finally:
            self._twin.softened = False

    def _dynamic(self, step: Step, read: Sequence[Any]) -> _Unknown:
        (data,) = _points(read[:1])
        levels, scale, zero = (self._given[name].astype(np.float64) for name in step.node.outputs)
        low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
        exact = torch.tensor((high - low) / 255.0)
        self._compare_values(
            step,
            torch.from_numpy(scale),
            exact * (1 - gamma(8, UNIT_FLOAT32)),
            exact * (1 + gamma(8, UNIT_FLOAT32)),
            exact,
        )
        value = (data / float(scale) + float(zero)).clamp(0, 255)
        slack = gamma(_STEP_ROUNDINGS, UNIT_FLOAT32) * (value.abs() + 256.0)
        lo, hi = torch.ceil(value - slack - 0.5), torch.floor(value + slack + 0.5)
        self._compare_values(step, torch.from_numpy(levels), lo, hi, value, is_integer=True)
        return _UNKNOWN

    def _compare(
        self,
        step: Step,
        lo: Float[Tensor, "*shape"],
        hi: Float[Tensor, "*shape"],
        *,
        is_integer: bool,
        middle: Float[Tensor, "*shape"] | None = None,
    ) -> None:
        got = torch.from_numpy(np.asarray(self._given[step.node.outputs[0]], np.float64))
        self._compare_values(
            step, got, lo, hi, 0.5 * (lo + hi) if middle is None else middle, is_integer=is_integer
        )

    def _compare_values(
        self,
        step: Step,
        got: Float64[Tensor, "..."],
        lo: Float[Tensor, "*shape"],
        hi: Float[Tensor, "*shape"],
        middle: Float[Tensor, "*shape"],
        *,
        is_integer: bool = False,
    ) -> None:
        if got.shape != lo.shape:
            raise CannotBoundError("another shape")
        self._compared += 1
        off = (got < lo) | (got > hi)
        if not is_integer:
            finite = torch.isfinite(lo) & torch.isfinite(hi) & torch.isfinite(got)
            off &= finite
            # Operators that bend have intervals of one side; products say how near to its limit
            # rounding comes.
            known = (
                torch.zeros(0)
                if step.node.op not in _PRODUCTS
                else ((got - middle).abs() / (hi - middle).clamp(min=_TINY))[finite & (hi > middle)]
            )
            self._share = max(self._share, float(known.max()) if known.numel() else 0.0)
        if bool(off.any()):
            self._wrong.append(
                _wrong_tensor(
                    step,
                    off,
                    (got - middle).abs(),
                    hi - middle,
                    is_integer=is_integer,
                    is_product=is_integer and self._is_product(step),
                )
            )


def _wrong_tensor(
    step: Step,
    off: Bool[Tensor, "*shape"],
    distance: Float[Tensor, "*shape"],
    allowed: Float[Tensor, "*shape"],
    *,
    is_integer: bool,
    is_product: bool,
) -> WrongTensor:
    node = step.node
    worst = int(torch.where(off, distance, -1.0).argmax())
    return WrongTensor(
        node=node.name or node.outputs[0],
        operator=f"{node.domain}::{node.op}" if node.domain else node.op,
        is_integer=is_integer,
        is_product=is_product,
        elements=int(off.sum()),
        total=off.numel(),
        difference=float(distance.flatten()[worst]),
        allowed=float(allowed.expand_as(distance).flatten()[worst]),
    )


def _bounded(step: Step, read: Sequence[Any]) -> Interval | None:
    """Return an interval that holds what a float operator may give; None: no built-in rule."""
    node = step.node
    active = sum(isinstance(value, Interval) for value in read)
    if node.op in ("MatMul", "Mul") and active == 2:
        return product_of_activations(node, step.kernel).forward(read)
    if node.op in ("MatMulIntegerToFloat", "QGemm"):
        return _float_of_integers(step, read)
    maker = RULES.get(node.op)
    if maker is None or sum(map(bool, node.outputs)) != 1:
        return None
    made = maker(node, step.kernel).forward(read)
    if node.op == "Cast":  # of double, to the nearest float
        return Interval.rounded(made.lo, made.hi, value_radius(made.magnitude))
    return made


def _float_of_integers(step: Step, read: Sequence[Any]) -> Interval:
    made = step.kernel(*_points(read))
    bias = _points(read[6:7])[0] if len(read) > 6 and read[6] is not None else torch.zeros(())
    if step.node.op == "QGemm":  # its bias counts units of the product
        bias = bias * (step.node.get("alpha", 1.0) * _points(read[1:2])[0] * _points(read[4:5])[0])
    size = made.abs() + 2 * bias.abs()
    return Interval.rounded(made, made, product_radius(size, 1))


def _point(array: Shaped[np.ndarray, "..."]) -> Any:
    """Return an array as a known value.

    Floats and levels as points of float64, whole numbers that are no levels as they are.
    """
    if array.dtype in (np.int64, np.bool_) or array.dtype.kind not in "fiu":
        return torch.from_numpy(np.ascontiguousarray(array))
    return _as_stored(Interval.point(torch.from_numpy(np.array(array, np.float64))), array.dtype)


def _as_stored(value: Interval, kind: np.dtype) -> Interval:
    """Return an interval that also holds what is, or becomes, a value of it in float16.

    onnxruntime computes in float32 on the CPU, and need not round what goes from one operator to
    the next: an operator may have read a number that rounds to the one that is given.
    """
    if kind != np.float16:
        return value
    size = torch.maximum(value.lo.abs(), value.hi.abs())
    return Interval.rounded(value.lo, value.hi, _UNIT_FLOAT16 * size + _LEAST_FLOAT16)


def _points(read: Sequence[Any]) -> list[Any]:
    if any(isinstance(value, Interval) and not value.is_point for value in read):
        raise CannotBoundError("an input is not known exactly")
    return [value.lo if isinstance(value, Interval) else value for value in read]


def _ends(read: Sequence[Any], side: int) -> list[Any]:
    return [
        (value.hi if side else value.lo) if isinstance(value, Interval) else value for value in read
    ]
