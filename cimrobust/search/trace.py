"""How fast a search became as good as it is: what it had found after how many passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: A search has come near its result where it is within this factor of it.
NEAR = 1.1
# Points of a certificate: more say nothing more.
_MOST_POINTS = 40


@dataclass(frozen=True)
class TracePoint:
    """The search became better.

    Attributes:
        passes: Passes made until then.
        seconds: Seconds since the search began.
        value: Accuracy on the attack set; for a regression the error.
    """

    passes: int
    seconds: float
    value: float


@dataclass(frozen=True)
class EffortCurve:
    """The course of a search on its attack set.

    Attributes:
        points: Where it became better, a selection with first and last.
        near: First point within `NEAR` times the last value: at most 1.1 times the accuracy, at
            least 1 / 1.1 of the error.
    """

    points: tuple[TracePoint, ...]
    near: TracePoint


def effort_curve(trace: Sequence[TracePoint], *, higher_is_better: bool) -> EffortCurve | None:
    """Return the course of a search; None where nothing was found.

    Args:
        trace: Every point, in order, each better than the one before.
        higher_is_better: The value is an accuracy, not an error.
    """
    if not trace:
        return None
    last = trace[-1].value
    near = next(
        point
        for point in trace
        if (point.value <= NEAR * last if higher_is_better else NEAR * point.value >= last)
    )
    least = abs(trace[0].value - last) / _MOST_POINTS
    kept = [trace[0]]
    for point in trace[1:-1]:
        if abs(point.value - kept[-1].value) > least:
            kept.append(point)
    return EffortCurve((*kept, trace[-1]) if len(trace) > 1 else (trace[0],), near)
