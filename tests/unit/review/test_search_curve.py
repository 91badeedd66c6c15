"""What the gate says of the course of a search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.review.search_numbers import search_check
from cimrobust.search.search_records import EffortPoint
from cimrobust.search.trace import effort_curve
from tests.unit.review.test_consistency import Plain, plain


def course(scores: Sequence[float]) -> list[EffortPoint]:
    return [
        EffortPoint(passes=number // 3, seconds=0.1 * number, score=score)
        for number, score in enumerate(scores, start=1)
    ]


def certificate(scores: Sequence[float]) -> Plain:
    """The example certificate with another course of its search."""
    values = plain()
    curve = effort_curve(course(scores), higher_is_better=True)
    assert curve is not None
    values["worst_found"]["effort_curve"] = curve.model_dump()
    return values


def is_named(values: Plain, place: str) -> bool:
    check = search_check(CertificateModel.model_validate(values))
    return f"worst_found.effort_curve.{place}" in check.detail


#: Courses that a search may take. The near point of the second one is not among the points kept.
HONEST = {
    "few": (0.9, 0.5, 0.3),
    "a near point that is not kept": (1.0, 0.676, 0.668, 0.661, 0.637, 0.609),
    "one": (0.4,),
    "down to nothing": (0.9, 0.1, 0.0),
    "hundreds": tuple(1 - number / 500 for number in range(400)),
}


@pytest.mark.parametrize("scores", HONEST.values(), ids=HONEST)
def test_every_course_of_a_search_holds(scores: Sequence[float]) -> None:
    values = certificate(scores)
    assert not is_named(values, "near")
    assert not is_named(values, "points")


def test_a_near_point_may_be_one_that_the_certificate_does_not_keep() -> None:
    curve = certificate(HONEST["a near point that is not kept"])["worst_found"]["effort_curve"]
    assert curve["near"] not in curve["points"]


@pytest.mark.parametrize(
    ("name", "value"), [("score", 0.7), ("score", 0.2), ("passes", 3), ("seconds", 9.0)]
)
def test_a_near_point_that_this_course_cannot_have(name: str, value: float) -> None:
    values = certificate((0.9, 0.5, 0.31, 0.305, 0.3))
    assert not is_named(values, "near")
    values["worst_found"]["effort_curve"]["near"][name] = value
    assert is_named(values, "near")


def test_a_course_without_points() -> None:
    values = certificate((0.9, 0.5))
    values["worst_found"]["effort_curve"]["points"] = []
    assert is_named(values, "points")
