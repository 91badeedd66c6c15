"""Largest safe tolerances of sweeps of several points, as far as they follow from these."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cimrobust.certificate.models.swept import SweepModel
from cimrobust.review.safe_check import safe_check
from tests.unit.review.test_consistency import Plain
from tests.unit.review.test_sweep_numbers import plain


def wider(score: float, *, bound: float = 0.95, trials: int = 300) -> Plain:
    """The genuine sweep of 5 % and 20 %, with a third tolerance, 40 %."""
    values = plain()
    point = copy.deepcopy(values["points"][-1])
    point["tolerance"] = 0.4
    point["worst_found"]["score"] = point["certified"]["score"] = score
    point["monte_carlo"]["trials"] = trials
    point["monte_carlo"]["kpp"][0]["lower_bound"] = bound
    values["points"].append(point)
    return values


def said(values: Plain) -> str:
    check = safe_check(SweepModel.model_validate(values))
    assert check.held is ("ends where the points" in check.detail)
    return "" if check.held else check.detail


@pytest.mark.parametrize("trials", [300, 500])
def test_a_claim_ends_at_the_first_tolerance_that_fails_it(trials: int) -> None:
    assert said(wider(0.3, bound=0.8, trials=trials)) == ""


def test_a_tolerance_that_holds_again_beyond_one_that_fails_changes_nothing() -> None:
    assert said(wider(0.95)) == ""


def test_fresh_chips_are_no_fewer_than_those_of_the_sweep() -> None:
    values = plain()
    for point in values["points"]:
        point["monte_carlo"]["trials"] = 500
    assert "safe.statistical.fresh_trials" in said(values)
    values["safe"]["statistical"]["fresh_trials"] = 500
    assert said(values) == ""


HOLDS: Plain = {"tolerance": 0.2, "fails_at": None, "tried": []}


def everywhere(**change: Any) -> Plain:
    """A sweep of which every tolerance meets what is required."""
    values = plain()
    values["points"][1]["worst_found"]["score"] = 0.9
    values["points"][1]["certified"]["score"] = 0.9
    values["safe"]["unrefuted"] |= HOLDS
    values["safe"]["certified"] |= HOLDS
    values["safe"]["unrefuted"] |= change
    return values


def test_a_claim_that_holds_everywhere_ends_with_the_sweep() -> None:
    assert said(everywhere()) == ""


@pytest.mark.parametrize("change", [{"tolerance": 0.05}, {"fails_at": 0.3}, {"tried": [0.1]}])
def test_a_claim_that_holds_everywhere_was_tried_nowhere_else(change: Plain) -> None:
    assert "safe.unrefuted.tolerance" in said(everywhere(**change))


@pytest.mark.parametrize("name", ["tolerance", "fails_at"])
def test_a_tolerance_is_that_of_the_bisection_to_the_last_digits(name: str) -> None:
    values = plain()
    values["safe"]["unrefuted"][name] *= 1 - 1e-9
    assert "safe.unrefuted.tried" in said(values)


def test_without_a_bound_nothing_was_tried_for_a_proof() -> None:
    values = plain()
    for point in values["points"]:
        point["certified"] |= {"score": None, "correct": None, "reason": "too costly"}
    claim = {"tolerance": None, "fails_at": None, "tried": [], "reason": "too costly"}
    values["safe"]["certified"] |= claim
    assert said(values) == ""
    values["safe"]["certified"]["tried"] = [0.1]
    assert "safe.certified.tolerance" in said(values)


def test_a_proof_needs_a_tolerance_at_which_nothing_was_refuted() -> None:
    values = plain()
    values["points"][0]["worst_found"]["score"] = 0.5
    values["safe"]["unrefuted"] |= {"tolerance": None, "fails_at": 0.05, "reason": "at every one"}
    assert "safe.certified" in said(values)


@pytest.mark.parametrize("required", [None, 0.8, "0.9"])
def test_the_score_required_is_that_of_the_settings(required: object) -> None:
    values = plain()
    for row in values["settings"]:
        if row["key"] == "require":
            row["value"] = required
    assert said(values) == f"the score required is not that of the settings, {required}"


def test_no_score_may_be_required_of_a_sweep() -> None:
    values = {**plain(), "safe": None}
    values["settings"] = [row for row in values["settings"] if row["key"] != "require"]
    check = safe_check(SweepModel.model_validate(values))
    assert (check.held, check.detail) == (True, "no score is required")
