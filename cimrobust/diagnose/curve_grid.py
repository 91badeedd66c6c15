"""Which tolerances a curve is of, and where a requirement ends on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cimrobust.attack.bisection import bisect

#: Tolerances of the grid, in units of the stated one.
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5)
#: Tolerances that are tried at most between two of the grid, and how close they come.
STEPS, RESOLUTION = 6, 0.05


def grid_of(stated: float) -> list[float]:
    """Return the tolerances of the grid, ascending: none is wider than the whole range.

    Args:
        stated: The stated tolerance, fraction of the full conductance range.
    """
    return [factor * stated for factor in FACTORS if factor * stated <= 1.0]


def edges(holds: Callable[[float], bool], grid: Sequence[float]) -> tuple[float, float | None]:
    """Return the edges of a requirement.

    Args:
        holds: Whether no chip was found that misses it at a tolerance.
        grid: Tolerances to ask first, ascending.

    Returns:
        The largest tolerance at which it holds, 0 where it does at none; and the smallest at which
        it does not, None where it does at all.
    """
    refuted = min((tolerance for tolerance in grid if not holds(tolerance)), default=None)
    if refuted is None:
        return max(grid), None
    low = max((tolerance for tolerance in grid if tolerance < refuted), default=0.0)
    return bisect(holds, low=low, high=refuted, steps=STEPS, resolution=RESOLUTION)
