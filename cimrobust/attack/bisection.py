"""Where a claim stops to hold."""

from __future__ import annotations

from collections.abc import Callable


def bisect(
    holds: Callable[[float], bool], *, low: float, high: float, steps: int, resolution: float
) -> tuple[float, float]:
    """Narrow the place where a claim stops to hold.

    Args:
        holds: Whether it holds at a tolerance; asked between the two ends alone.
        low: It holds here.
        high: It does not hold here.
        steps: Most questions.
        resolution: Width, as a share of the upper end, at which to stop.

    Returns:
        The largest value known to hold, and the smallest known not to.
    """
    for _ in range(steps):
        if high - low <= resolution * high:
            break
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low, high
