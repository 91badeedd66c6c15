"""How fast a search became as good as it is: what it had found after how many passes."""

from __future__ import annotations

from collections.abc import Sequence

from cimrobust.search.search_records import EffortCurve, EffortPoint

#: A search has come near its result where it is within this factor of it.
NEAR = 1.1
# Points of a certificate: more say nothing more.
_MOST_POINTS = 40


def effort_curve(trace: Sequence[EffortPoint], *, higher_is_better: bool) -> EffortCurve | None:
    """Return the course of a search; None where nothing was found.

    Args:
        trace: Every point, in order, each better than the one before.
        higher_is_better: The value is an accuracy, not an error.
    """
    if not trace:
        return None
    last = trace[-1].score
    near = next(
        point
        for point in trace
        if (point.score <= NEAR * last if higher_is_better else NEAR * point.score >= last)
    )
    least = abs(trace[0].score - last) / _MOST_POINTS
    kept = [trace[0]]
    for point in trace[1:-1]:
        if abs(point.score - kept[-1].score) > least:
            kept.append(point)
    return EffortCurve(points=(*kept, trace[-1]) if len(trace) > 1 else (trace[0],), near=near)
