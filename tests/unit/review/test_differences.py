"""Values of one form are compared part by part, so that a replay names what differs."""

from __future__ import annotations

from typing import Any

import pytest

from cimrobust.review.consistency import _blocks
from cimrobust.review.differences import EXACT, Exactness, differences, named
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


@pytest.mark.parametrize(
    ("derived", "claimed", "exactness", "agree"),
    [
        (3, 3, EXACT, True),
        (3, 4, EXACT, False),
        (3, 4, Exactness(slack=1), True),
        (3, 5, Exactness(slack=1), False),
        (0.1, 0.1, EXACT, True),
        (0.1, 0.1 + 1e-16, EXACT, False),
        (1.0, 1, EXACT, True),
        (0.0, 1e-9, Exactness(rtol=0.1), False),
        (0.0, 1e-9, Exactness(atol=1e-9), True),
        (1, True, Exactness(slack=1), False),
        (True, True, EXACT, True),
        (False, None, EXACT, False),
        ("a", "b", EXACT, False),
        ("a", "b", Exactness(texts=False), True),
        ("a", None, Exactness(texts=False), False),
        (None, None, EXACT, True),
        (float("nan"), float("nan"), EXACT, False),
    ],
)
def test_values_agree_as_exactly_as_asked(derived, claimed, exactness, agree):
    assert exactness.agree(derived, claimed) is agree
    assert exactness.agree(claimed, derived) is agree


@pytest.mark.parametrize(
    ("one", "other", "places"),
    [
        ([1, 2], [1, 3], ["curve.1"]),
        ([1, 2], (1, 2), []),
        ([1, 2], [1, 2, 3], ["curve"]),
        ([1, 2], None, ["curve"]),
        (None, [1, 2], ["curve"]),
        ({"a": 1, "b": [1]}, {"a": 2, "b": [2]}, ["curve.a", "curve.b.0"]),
        ({"a": 1}, {"b": 1}, ["curve"]),
        ({"a": 1}, [1], ["curve"]),
    ],
)
def test_values_of_other_forms_differ_as_a_whole(one, other, places):
    assert wrong(one, other) == places


def test_the_first_five_of_many_places_are_named():
    assert named([]) == ""
    assert named(list("abcde")) == "a, b, c, d, e"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"
