"""The root of an equation, by Brent's method.

Step for step `scipy.optimize.brentq`, the same to the last bit: importing `scipy.optimize` takes
longer than checking a certificate does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

#: Four units in the last place of 1: no root in float64 is narrowed down further.
_RTOL = 4.0 * 2.0**-52
_MOST_STEPS = 100


def bracketed_root(
    function: Callable[[float], float], start: float, end: float, *, xtol: float
) -> float:
    """Return where a continuous function is 0, between two places at which its signs differ.

    Args:
        function: A function of a number.
        start: One end of the bracket.
        end: The other; smaller or larger.
        xtol: The root is within this and `_RTOL` of itself, whichever is more.

    Raises:
        ValueError: The signs at both ends are the same, the function is not a number somewhere, or
            100 steps do not suffice.

    References:
        R. P. Brent, "Algorithms for minimization without derivatives", Prentice-Hall 1973, chapter
        4; the order of operations is that of SciPy's ``Zeros/brentq.c``.
    """
    before, f_before = start, _value(function, start)
    here, f_here = end, _value(function, end)
    if f_before == 0.0:
        return before
    if f_here == 0.0:
        return here
    if (f_before < 0.0) == (f_here < 0.0):
        raise ValueError(
            f"signs at both ends must differ, got {f_before:g} at {start:g} and {f_here:g} at"
            f" {end:g} (root of an equation); widen the bracket"
        )
    beyond = f_beyond = step = last_step = 0.0
    for _ in range(_MOST_STEPS):
        if f_before != 0.0 and f_here != 0.0 and (f_before < 0.0) != (f_here < 0.0):
            beyond, f_beyond = before, f_before
            last_step = step = here - before
        if abs(f_beyond) < abs(f_here):
            before, here, beyond = here, beyond, here
            f_before, f_here, f_beyond = f_here, f_beyond, f_here
        tolerance = (xtol + _RTOL * abs(here)) / 2.0
        half = (beyond - here) / 2.0
        if f_here == 0.0 or abs(half) < tolerance:
            return here
        last_step, step = _next_step(
            (before, f_before), (here, f_here), (beyond, f_beyond), (last_step, step), tolerance
        )
        before, f_before = here, f_here
        here += step if abs(step) > tolerance else math.copysign(tolerance, half)
        f_here = _value(function, here)
    raise ValueError(
        f"root must be found within {_MOST_STEPS} steps, got {here:g} by then (root of an"
        " equation); narrow the bracket"
    )


def _value(function: Callable[[float], float], place: float) -> float:
    value = float(function(place))
    if math.isnan(value):
        raise ValueError(
            f"function must be a number everywhere in the bracket, got NaN at {place:g} (root of an"
            " equation); narrow the bracket"
        )
    return value


def _next_step(
    before: tuple[float, float],
    here: tuple[float, float],
    beyond: tuple[float, float],
    steps: tuple[float, float],
    tolerance: float,
) -> tuple[float, float]:
    """Return the step that the next one is measured by, and the next step.

    Through two places by a line or through three by a parabola, where that falls inside and is less
    than half of the step before the last; else to the middle.

    Args:
        before: The place before, and the function there.
        here: The best place, and the function there.
        beyond: The place on the other side of the root, and the function there.
        steps: The step before the last and the last one.
        tolerance: The least step.
    """
    (x_before, f_before), (x, f), (x_beyond, f_beyond) = before, here, beyond
    last_step, step = steps
    half = (x_beyond - x) / 2.0
    if not (abs(last_step) > tolerance and abs(f) < abs(f_before)):
        return half, half
    if x_before == x_beyond:
        tried = -f * (x - x_before) / (f - f_before)
    else:
        to_before = (f_before - f) / (x_before - x)
        to_beyond = (f_beyond - f) / (x_beyond - x)
        tried = (
            -f
            * (f_beyond * to_beyond - f_before * to_before)
            / (to_beyond * to_before * (f_beyond - f_before))
        )
    if 2.0 * abs(tried) < min(abs(last_step), 3.0 * abs(half) - tolerance):
        return step, tried
    return half, half
