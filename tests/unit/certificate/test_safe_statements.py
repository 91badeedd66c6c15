"""Largest safe tolerances in words: what is claimed, and where it stops."""

from __future__ import annotations

from typing import Any

from cimrobust.certificate.safe_statements import safe_tolerances
from cimrobust.tolerance_sweep.safe_result import SafeTolerance

FOUND: dict[str, Any] = {
    "required": 0.9,
    "unrefuted": SafeTolerance(0.05, 0.0625, "", (0.055,)),
    "statistical": SafeTolerance(0.04, None, "", (), trials=300, confidence=0.975),
    "certified": SafeTolerance(None, 0.01, "nothing is proven", ()),
}


def test_every_claim_says_how_strong_it_is_and_where_it_ends() -> None:
    made = safe_tolerances(**FOUND, metric="accuracy", higher_is_better=True)
    assert made.unrefuted.statement == (
        "Up to a tolerance of 5 % no chip was found that misses accuracy at least 90 %; others may;"
        " not at 6.25 %."
    )
    assert made.statistical.statement == (
        "Up to a tolerance of 4 % all but 1 % of chips drawn as stated have accuracy at least 90 %,"
        " at 95 % confidence; larger ones were not tried."
    )
    assert made.certified.statement == "At no tolerance: nothing is proven."
    assert (made.certified.tolerance, made.certified.reason) == (None, "nothing is proven")
    assert (made.unrefuted.reason, made.unrefuted.tried) == (None, [0.055])
    assert (made.statistical.fresh_trials, made.statistical.test_confidence) == (300, 0.975)
    assert (made.statistical.k, made.statistical.confidence, made.required) == (1.0, 0.95, 0.9)


def test_errors_have_no_percent_and_must_be_low() -> None:
    made = safe_tolerances(**FOUND, metric="rmse", higher_is_better=False)
    assert "misses rmse at most 0.9;" in made.unrefuted.statement
