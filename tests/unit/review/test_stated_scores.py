"""Scores against their counts, and against the worst chip found."""

from __future__ import annotations

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.review.stated_scores import is_share, is_worse_than_found
from tests.unit.review.test_consistency import plain


@pytest.mark.parametrize(
    ("score", "correct", "samples", "is_one"),
    [
        (0.5, 95, 190, True),
        (1 / 3, 1, 3, True),
        (0.0, 0, 3, True),
        (0.3333, 1, 3, False),
        (2.0, 6, 3, False),
        (-1.0, -3, 3, False),
        (0.7, None, 3, True),
        (0.7, 0, 0, True),
        (0.7, 1, 0, False),
    ],
)
def test_a_share_is_its_count_over_samples(
    score: float, correct: int | None, samples: int, is_one: bool
) -> None:
    assert is_share(score, correct, samples) is is_one


WORST = 179 / 190


def made(score: float, *, metric: str = "accuracy") -> CertificateModel:
    values = plain()
    values["worst_found"]["replay"]["engine_score"] = score
    if metric != "accuracy":
        values["metric"] |= {"name": metric, "unit": "unit", "higher_is_better": False}
    return CertificateModel.model_validate(values)


@pytest.mark.parametrize(
    ("score", "edge", "is_worse"),
    [
        (WORST, 0, False),
        (178 / 190, 0, True),
        (178 / 190, 1, False),
        (177 / 190, 1, True),
        (1.0, 0, False),
    ],
)
def test_no_chip_is_worse_than_the_worst_by_a_decision(
    score: float, edge: int, is_worse: bool
) -> None:
    assert is_worse_than_found(made(WORST), score, edge=edge) is is_worse
    assert is_worse_than_found(made(WORST), score) is (score < WORST)


@pytest.mark.parametrize(
    ("score", "is_worse"), [(4.0, False), (4.000003, False), (4.00001, True), (3.0, False)]
)
def test_an_error_is_worse_where_it_is_larger_than_rounding(score: float, is_worse: bool) -> None:
    assert is_worse_than_found(made(4.0, metric="rmse"), score) is is_worse
