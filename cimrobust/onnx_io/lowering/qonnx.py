"""Quantisers of QONNX, which Brevitas, QKeras and FINN write.

Any number of bits, values held as floats.

onnxruntime has none of these operators, so a form that is not covered is refused. The formulas are
those of the QONNX operator descriptions (Quant and IntQuant 1, BipolarQuant 1, Trunc 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cimrobust.onnx_io.lowering.lowering_errors import RefusedError
from cimrobust.onnx_io.lowering.lowering_registry import Lowering, lowers, refuses

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32
    from cimrobust.onnx_io.lowering.job import Job

DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")

_ARITHMETIC_SINCE = 11
_PER_AXIS_SINCE = 13
_MOST_BITS = 16
_MOST_STEPS = 255


def _in_all_domains(*operators: str) -> Callable[[Lowering], Lowering]:
    return lowers(*(f"{domain}::{op}" for domain in DOMAINS for op in operators), widens=False)


refuses(
    *(f"{domain}::FloatQuant" for domain in DOMAINS),
    why=(
        "short floating-point numbers of any width are not covered; quantise to integers"
        " (IntQuant), or export without quantisers"
    ),
)


def _number(job: Job, index: int, what: str) -> float:
    """Return an input that must be one constant number."""
    value = job.value(job.input(index))
    if value is None or value.size != 1 or not np.isfinite(value).all():
        raise RefusedError(f"its {what} '{job.input(index)}' must be one constant number")
    return float(value.reshape(()))


def _bits(job: Job, index: int, what: str = "bit width") -> int:
    value = _number(job, index, what)
    if value != int(value) or not 1 <= value <= 32:
        raise RefusedError(f"its {what} must be 1 to 32, got {value:g}")
    return int(value)


def _range(job: Job, bits: int) -> tuple[int, int]:
    """Return the smallest and largest integer of a quantiser."""
    signed, narrow = job.integer("signed", 1), job.integer("narrow", 0)
    if signed:
        return -(2 ** (bits - 1)) + (1 if narrow else 0), 2 ** (bits - 1) - 1
    return 0, 2**bits - (2 if narrow else 1)


def _require(job: Job) -> None:
    if job.opset < _ARITHMETIC_SINCE:
        raise RefusedError(
            f"the model is of operator set {job.opset}, {_ARITHMETIC_SINCE} or newer are covered;"
            " export it for a newer one"
        )


def _float(job: Job, value: float) -> str:
    return job.constant(np.asarray(value, np.float32), "number")


def _rounded(job: Job, name: str, mode: str) -> str:
    """Round to integers as one of the modes of QONNX says.

    Halves and signs as its table of modes has them.
    """

    def apart(below: tuple[str, float], above: tuple[str, float]) -> str:
        """Round what is negative in one way and the rest in another, each after adding a number."""
        made = [
            job.add(op, job.add("Add", name, _float(job, shift)) if shift else name)
            for op, shift in (below, above)
        ]
        return job.add("Where", job.add("Less", name, _float(job, 0.0)), *made)

    wanted = mode.upper()
    if wanted in ("ROUND", "HALF_EVEN", "CEIL", "FLOOR"):
        return job.add({"CEIL": "Ceil", "FLOOR": "Floor"}.get(wanted, "Round"), name)
    if wanted == "UP":
        return apart(("Floor", 0.0), ("Ceil", 0.0))
    if wanted in ("DOWN", "ROUND_TO_ZERO"):
        return apart(("Ceil", 0.0), ("Floor", 0.0))
    if wanted == "HALF_UP":
        return apart(("Ceil", -0.5), ("Floor", 0.5))
    if wanted == "HALF_DOWN":
        return apart(("Floor", 0.5), ("Ceil", -0.5))
    raise RefusedError(f"its rounding_mode '{mode}' is not covered")


_HALF = np.float32(0.5)

#: As `_rounded`, of NumPy arrays in the same arithmetic.
_ROUNDERS: dict[str, Callable[[Float32[np.ndarray, "..."]], Float32[np.ndarray, "..."]]] = {
    "ROUND": lambda x: np.asarray(np.rint(x)),
    "HALF_EVEN": lambda x: np.asarray(np.rint(x)),
    "CEIL": lambda x: np.asarray(np.ceil(x)),
    "FLOOR": lambda x: np.asarray(np.floor(x)),
    "UP": lambda x: np.where(x < 0, np.floor(x), np.ceil(x)),
    "DOWN": lambda x: np.asarray(np.trunc(x)),
    "ROUND_TO_ZERO": lambda x: np.asarray(np.trunc(x)),
    "HALF_UP": lambda x: np.where(x < 0, np.ceil(x - _HALF), np.floor(x + _HALF)),
    "HALF_DOWN": lambda x: np.where(x < 0, np.floor(x + _HALF), np.ceil(x - _HALF)),
}


def rounded(values: Float32[np.ndarray, "*shape"], mode: str) -> Float32[np.ndarray, "*shape"]:
    """Round float32 numbers as a mode says."""
    if mode.upper() not in _ROUNDERS:
        raise RefusedError(f"its rounding_mode '{mode}' is not covered")
    return _ROUNDERS[mode.upper()](values)


@_in_all_domains("Quant", "IntQuant")
def quant(job: Job) -> None:
    """Clip, QuantizeLinear, DequantizeLinear, or else Div, Add, Clip, Round, Sub, Mul.

    Of a constant weight DequantizeLinear of its integers.
    """
    _require(job)
    bits = _bits(job, 3)
    if bits == 1 and job.integer("signed", 1):
        _bipolar(job, shift=job.value(job.input(2)))
        return
    low, high = _range(job, bits)
    constants = [job.value(job.input(index)) for index in range(3)]
    if all(value is not None for value in constants):
        data, scale, zero = (
            np.asarray(value, np.float32) for value in constants if value is not None
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            clipped = np.clip(data / scale + zero, np.float32(low), np.float32(high))
        levels = rounded(clipped, job.text("rounding_mode", "ROUND"))
        job.finish(_constant(job, levels, scale, zero, bits=bits - (1 if low == -high else 0)))
        return
    if _has_integer_type(job, low, high):
        job.finish(_through_integers(job, low, high))
        return
    shifted = _shifted(job, job.add("Div", job.input(0), job.input(1)), "Add")
    inside = job.add("Clip", shifted, _float(job, low), _float(job, high))
    levels_name = _rounded(job, inside, job.text("rounding_mode", "ROUND"))
    job.finish(job.add("Mul", _shifted(job, levels_name, "Sub"), job.input(1)))


def _has_integer_type(job: Job, low: int, high: int) -> bool:
    """Tell whether QuantizeLinear gives the same.

    One scale, halves to even, and a zero point that leaves even numbers even.
    """
    scale, zero = job.value(job.input(1)), job.value(job.input(2))
    if (
        scale is None
        or zero is None
        or scale.size != 1
        or zero.size != 1
        or job.text("rounding_mode", "ROUND").upper() not in ("ROUND", "HALF_EVEN")
    ):
        return False
    shift = float(zero.reshape(()))
    return (
        shift % 2 == 0
        and float(scale.reshape(())) > 0
        and _level_type(np.array([low, high, shift])) in (np.int8, np.uint8)
    )


def _through_integers(job: Job, low: int, high: int) -> str:
    """Quantise to 8 bits and back, what lies outside the range brought to its ends before."""
    scale, shift = np.float32(_number(job, 1, "scale")), _number(job, 2, "zero point")
    kind = _level_type(np.array([low, high, shift]))
    assert kind is not None
    inside = job.input(0)
    if (low, high) != (np.iinfo(kind).min, np.iinfo(kind).max):
        ends = (np.float32(end - shift) * scale for end in (low, high))
        inside = job.add("Clip", inside, *(_float(job, float(end)) for end in ends))
    inputs = (job.constant(np.asarray(scale), "scale"), job.constant(np.array(shift, kind), "zero"))
    return job.add("DequantizeLinear", job.add("QuantizeLinear", inside, *inputs), *inputs)


def _shifted(job: Job, name: str, op: str) -> str:
    """Add or subtract the zero point, left out where it is zero."""
    zero = job.value(job.input(2))
    return name if zero is not None and not zero.any() else job.add(op, name, job.input(2))


def _constant(
    job: Job,
    levels: Float[np.ndarray, "*weight"],
    scale: Float[np.ndarray, "..."],
    zero: Float[np.ndarray, "..."],
    *,
    bits: int,
) -> str:
    """Return a constant from its integers.

    A matrix or kernel as DequantizeLinear, a bias (and what has no such form) as floats.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        source, values = job.input(0), ((levels - zero) * scale).astype(np.float32)
    if not np.isfinite(values).all():
        raise RefusedError("its weights, scales and zero points must give finite numbers")
    form = _form(job, levels, scale, zero)
    if form is None or bits > _MOST_BITS:
        return job.weight(source, values, "values")
    kind, axis = form
    note = (
        f"the weights '{source}' are quantised by {job.node.op_type} to {bits} magnitude bits and"
        " stored as these integers, {}"
    )
    name = job.weight(source, levels.astype(kind), "levels", bits=bits, note=note)
    shape = () if axis is None else (levels.shape[axis],)
    scales, zeros = (
        np.array(np.broadcast_to(part.reshape(-1) if shape else part.reshape(()), shape))
        for part in (scale, zero)
    )
    inputs = (job.constant(scales, "scale"), job.constant(zeros.astype(kind), "zero"))
    return (
        job.add("DequantizeLinear", name, *inputs)
        if axis is None
        else job.add("DequantizeLinear", name, *inputs, axis=axis)
    )


def _form(
    job: Job,
    levels: Float[np.ndarray, "*weight"],
    scale: Float[np.ndarray, "..."],
    zero: Float[np.ndarray, "..."],
) -> tuple[type[np.integer[Any]], int | None] | None:
    """Return type and axis with which DequantizeLinear makes a constant of integers.

    None: it cannot, or the constant is no matrix.
    """
    kind = _level_type(np.concatenate([levels.reshape(-1), zero.reshape(-1)]))
    axes = {
        axis
        for part in (scale, zero)
        if part.size > 1
        for axis, size in enumerate(part.shape)
        if size > 1
    }
    fits = all(part.size == 1 or part.ndim == levels.ndim for part in (scale, zero))
    if (
        levels.ndim < 2
        or kind is None
        or not fits
        or len(axes) > 1
        or (axes and job.opset < _PER_AXIS_SINCE)
    ):
        return None
    return kind, axes.pop() if axes else None


def _level_type(values: Float[np.ndarray, "..."]) -> type[np.integer[Any]] | None:
    """Return the shortest type that onnxruntime dequantises and that holds some integers.

    Return None where the values are no integers or no such type holds them.
    """
    kinds: tuple[type[np.integer[Any]], ...] = (np.int8, np.uint8, np.int16, np.uint16)
    if not (values == np.rint(values)).all():
        return None
    return next(
        (
            kind
            for kind in kinds
            if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max
        ),
        None,
    )


@_in_all_domains("BipolarQuant")
def bipolar_quant(job: Job) -> None:
    """Sign (of zero 1), Mul; of a constant weight DequantizeLinear of its signs."""
    _require(job)
    _bipolar(job, shift=None)


def _bipolar(job: Job, *, shift: Float[np.ndarray, "..."] | None) -> None:
    """Signs times scale; `shift` is the zero point of a Quant of one bit."""
    if shift is not None and shift.any():
        raise RefusedError("it has one bit and a zero point")
    data, scale = (job.value(job.input(index)) for index in range(2))
    if data is not None and scale is not None:
        factor = np.asarray(scale, np.float32)
        levels = np.where(
            (data / factor if shift is not None else data) >= 0, np.float32(1), np.float32(-1)
        )
        job.finish(_constant(job, levels, factor, np.zeros((), np.float32), bits=1))
        return
    source = job.add("Div", job.input(0), job.input(1)) if shift is not None else job.input(0)
    # The sign of zero is 0, and is to be 1.
    signs = job.add("Sign", job.add("Add", job.add("Sign", source), _float(job, 0.5)))
    job.finish(job.add("Mul", signs, job.input(1)))


@_in_all_domains("Trunc")
def trunc(job: Job) -> None:
    """Div, Add, Round, Div, Clip (version 2), Floor or another rounding, Sub, Mul."""
    _require(job)
    has_scale = len(job.node.input) > 5
    scale, zero = _number(job, 1, "scale"), _number(job, 2, "zero point")
    bits_in, bits_out = (
        _bits(job, 3, "input bit width"),
        _bits(job, 5 if has_scale else 4, "output bit width"),
    )
    scale_out = _number(job, 4, "output scale") if has_scale else scale
    if scale <= 0 or scale_out <= 0:
        raise RefusedError(f"its scales must be positive, got {scale:g} and {scale_out:g}")
    divisor = float(
        2.0 ** (np.rint(np.log2(scale_out / scale)) if has_scale else bits_in - bits_out)
    )
    level = job.add("Div", job.input(0), _float(job, scale))
    level = job.add("Round", job.add("Add", level, _float(job, zero)) if zero else level)
    level = job.add("Div", level, _float(job, divisor))
    if has_scale:
        low, high = _range(job, bits_out)
        level = job.add("Clip", level, _float(job, low), _float(job, high))
    level = _rounded(job, level, job.text("rounding_mode", "FLOOR"))
    zero_out = zero / divisor if has_scale else zero
    level = job.add("Sub", level, _float(job, zero_out)) if zero_out else level
    job.finish(job.add("Mul", level, _float(job, scale_out)))


@_in_all_domains("MultiThreshold")
def multi_threshold(job: Job) -> None:
    """Sub, Sign, Ceil, ReduceSum over the thresholds, Mul, Add."""
    _require(job)
    thresholds, rank = job.value(job.input(1)), job.rank(job.input(0))
    if thresholds is None or thresholds.ndim != 2 or thresholds.shape[1] > _MOST_STEPS:
        raise RefusedError(
            f"its thresholds '{job.input(1)}' must be a constant matrix of at most {_MOST_STEPS}"
            " columns"
        )
    axis = _channel_axis(job, rank)
    shape = [1] * rank
    shape[axis] = thresholds.shape[0]
    steps = job.constant(np.asarray(thresholds, np.float32).reshape(*shape, -1), "thresholds")
    column = job.add(
        "Reshape", job.input(0), job.constant(np.array([0] * rank + [1], np.int64), "shape")
    )
    sign = job.add("Sign", job.add("Sub", column, steps))
    # 1 where the threshold is reached: the half of a sign of zero is rounded up.
    reached = job.add(
        "Ceil", job.add("Add", job.add("Mul", sign, _float(job, 0.5)), _float(job, 0.5))
    )
    axes = job.axes(-1)
    count = (
        job.add("ReduceSum", reached, axes, keepdims=0)
        if job.opset >= _PER_AXIS_SINCE
        else job.add("ReduceSum", reached, axes=[-1], keepdims=0)
    )
    scaled = job.add("Mul", count, _float(job, job.number("out_scale", 1.0)))
    job.finish(job.add("Add", scaled, _float(job, job.number("out_bias", 0.0))))


def _channel_axis(job: Job, rank: int) -> int:
    """Return the axis of the channels, which the layout names.

    Without one, images and matrices have it second.
    """
    layout = job.text("data_layout")
    if layout:
        if layout.count("C") != 1 or len(layout) != rank:
            raise RefusedError(f"its data_layout '{layout}' does not fit {rank} axes")
        return layout.index("C")
    if rank not in (2, 4):
        raise RefusedError(f"it has {rank} axes and no data_layout")
    return 1
