from __future__ import annotations

import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_records import EffortPoint
from cimrobust.search.trace import effort_curve


def _point(passes: int, seconds: float, score: float) -> EffortPoint:
    return EffortPoint(passes=passes, seconds=seconds, score=score)


def _trace(*values: float) -> list[EffortPoint]:
    return [_point(3 * index, 0.5 * index, value) for index, value in enumerate(values)]


def test_near_is_within_a_tenth_of_the_last_accuracy() -> None:
    curve = effort_curve(_trace(0.9, 0.5, 0.22, 0.21, 0.2), higher_is_better=True)
    assert curve is not None
    assert curve.near == _point(6, 1.0, 0.22)
    assert [point.score for point in curve.points] == [0.9, 0.5, 0.22, 0.2]


def test_near_is_within_a_tenth_of_the_last_error() -> None:
    curve = effort_curve(_trace(1.0, 9.0, 9.2, 10.0), higher_is_better=False)
    assert curve is not None
    assert curve.near.passes == 6


def test_nothing_found_has_no_curve() -> None:
    assert effort_curve([], higher_is_better=True) is None


def test_one_point_is_its_own_curve() -> None:
    curve = effort_curve(_trace(0.0), higher_is_better=True)
    assert curve is not None
    assert (curve.points, curve.near) == ((_point(0, 0.0, 0.0),), _point(0, 0.0, 0.0))


@pytest.mark.usefixtures("cheap")
def test_a_search_tells_its_course(small: tuple[Runtime, Placement]) -> None:
    result = search(Subject(*small), Run(seed=3, effort="quick"))
    assert result.curve is not None
    values = [point.score for point in result.curve.points]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(result.score.value, abs=0.01)  # crafted on all samples
    assert result.curve.near.passes <= result.curve.points[-1].passes <= result.passes
    assert result.curve.near.score <= 1.1 * values[-1]
