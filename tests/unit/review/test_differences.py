"""Values of one form are compared part by part, so that a replay names what differs."""

from __future__ import annotations

from typing import Any

from cimrobust.review.consistency import _blocks
from cimrobust.review.differences import Exactness, differences
from cimrobust.search.search_records import EffortCurve, EffortPoint


def curve(*points: tuple[int, float, float]) -> EffortCurve:
    rows = [EffortPoint(passes=n, seconds=t, score=score) for n, t, score in points]
    return EffortCurve(points=rows, near=rows[-1])


def wrong(one: Any, other: Any, **exactness: Any) -> list[str]:
    return list(differences(one, other, place="curve", exactness=Exactness(**exactness)))


def test_a_row_that_differs_is_named_by_its_place():
    one, other = curve((1, 0.1, 0.9), (5, 0.2, 0.4)), curve((1, 0.1, 0.8), (5, 0.2, 0.4))
    assert wrong(one, other) == ["curve.points.0.score"]


def test_clocks_inside_of_rows_are_left_out():
    one, other = curve((1, 0.1, 0.9), (5, 0.2, 0.4)), curve((1, 0.3, 0.9), (5, 0.7, 0.4))
    assert wrong(one, other, skip=frozenset({"seconds"})) == []
    assert "curve.points.1.seconds" in wrong(one, other)


def test_numbers_inside_of_rows_are_as_exact_as_asked():
    one, other = curve((1, 0.1, 0.9)), curve((1, 0.1, 0.9 + 1e-9))
    assert wrong(one, other, rtol=1e-6) == []
    assert wrong(one, other) == ["curve.points.0.score", "curve.near.score"]


def test_a_missing_row_is_a_difference():
    assert "curve.points" in wrong(curve((1, 0.1, 0.9), (5, 0.2, 0.4)), curve((5, 0.2, 0.4)))


def test_blocks_inside_of_rows_are_checked_too():
    places = [place for place, _ in _blocks(curve((1, 0.1, 0.9), (5, 0.2, 0.4)), "")]
    assert places == ["points.0", "points.1", "near"]
