"""Where a function of one number is zero."""

from __future__ import annotations

import sys
from collections.abc import Callable

_MOST_STEPS = 100


def root(function: Callable[[float], float], start: float, end: float, *, xtol: float) -> float:
    """Return a zero of a continuous function between two places where its signs differ.

    Brent's method as `scipy.optimize.brentq` has it, to the last bit; that package takes longer to
    import than a certificate takes to be checked.

    Args:
        function: The function.
        start: Place of the one sign.
        end: Place of the other.
        xtol: The zero is at most this far from what is returned.

    Raises:
        ValueError: The signs are the same, or it is not found in a hundred steps.

    References:
        R. P. Brent, "Algorithms for minimization without derivatives", Prentice-Hall 1973, ch. 4.
    """
    before, now, other = start, end, 0.0
    f_before, f_now, f_other = function(start), function(end), 0.0
    if f_before == 0.0:
        return before
    if f_now == 0.0:
        return now
    if (f_before < 0.0) == (f_now < 0.0):
        raise ValueError(f"signs must differ, got {f_before} at {start} and {f_now} at {end}")
    step = last = 0.0
    for _ in range(_MOST_STEPS):
        if f_before != 0.0 and f_now != 0.0 and (f_before < 0.0) != (f_now < 0.0):
            other, f_other = before, f_before
            step = last = now - before
        if abs(f_other) < abs(f_now):
            before, now, other = now, other, now
            f_before, f_now, f_other = f_now, f_other, f_now
        delta = (xtol + 4.0 * sys.float_info.epsilon * abs(now)) / 2.0
        half = (other - now) / 2.0
        if f_now == 0.0 or abs(half) < delta:
            return now
        step, last = _next_step(
            (before, f_before), (now, f_now), (other, f_other), (step, last), delta
        )
        before, f_before = now, f_now
        now += step if abs(step) > delta else (delta if half > 0.0 else -delta)
        f_now = function(now)
    raise ValueError(f"no zero was found between {start} and {end} in {_MOST_STEPS} steps")


def _next_step(
    before: tuple[float, float],
    now: tuple[float, float],
    other: tuple[float, float],
    steps: tuple[float, float],
    delta: float,
) -> tuple[float, float]:
    """Return the next step and the one that it is measured by: interpolated, else half the way."""
    (x_before, f_before), (x, f), (x_other, f_other) = before, now, other
    step, last = steps
    half = (x_other - x) / 2.0
    if not (abs(last) > delta and abs(f) < abs(f_before)):
        return half, half
    if x_before == x_other:  # a line through two points
        tried = -f * (x - x_before) / (f - f_before)
    else:  # a parabola in the value through three
        one, two = (f_before - f) / (x_before - x), (f_other - f) / (x_other - x)
        tried = -f * (f_other * two - f_before * one) / (two * one * (f_other - f_before))
    if 2.0 * abs(tried) < min(abs(last), 3.0 * abs(half) - delta):
        return tried, step
    return half, half
