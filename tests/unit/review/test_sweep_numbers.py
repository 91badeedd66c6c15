"""Numbers of a sweep that contradict each other, each named by the check that finds it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.read_record import read_result
from cimrobust.errors import InputRefusedError
from cimrobust.review.safe_check import safe_check
from cimrobust.review.sweep_numbers import sweep_number_checks
from tests.unit.review.test_consistency import Plain, one_more, put

SWEEP = Path(__file__).parents[2] / "golden" / "results" / "sweep-1.2.json"


@cache
def genuine() -> SweepModel:
    """A genuine sweep of two tolerances."""
    return read_result(SWEEP, SweepModel, hint="look")


def plain() -> Plain:
    """It as plain values."""
    return genuine().model_dump()


def contradicted(values: Plain) -> dict[str, str]:
    """Return what the checks that do not hold say, by name."""
    sweep = SweepModel.model_validate(values)
    checks = [*sweep_number_checks(sweep), safe_check(sweep)]
    return {check.id: check.detail for check in checks if check.held is False}


#: What is changed, the check that finds it, and the place that it names.
CHANGES = [
    ("points.1.tolerance", lambda _: 0.04, "curve", "points.1.tolerance"),
    ("points.1.worst_found.score", lambda _: 0.95, "curve", "points.1.worst_found.score"),
    ("points.1.certified.score", lambda _: 0.95, "curve", "points.1.certified.score"),
    ("points.0.certified.score", lambda _: 0.95, "curve", "points.0.certified.score"),
    ("points.0.certified.reason", lambda _: "none", "curve", "points.0.certified.reason"),
    ("points.0.worst_found.members.0.score", lambda _: 0.5, "curve", "worst_found.members"),
    ("data.decision.metric", lambda _: "mae", "shares", "data.decision.metric"),
    ("points.0.worst_found.correct", one_more, "shares", "points.0.worst_found.score"),
    ("points.0.worst_found.correct", lambda _: None, "shares", "points.0.worst_found.score"),
    ("points.0.worst_found.file_score", lambda s: s / 2, "shares", "worst_found.file_score"),
    ("points.0.worst_found.members.0.correct", one_more, "shares", "worst_found.members.0.score"),
    ("points.0.certified.correct", one_more, "shares", "points.0.certified.score"),
    ("points.0.monte_carlo.mean", lambda _: 0.5, "chips", "points.0.monte_carlo.mean"),
    ("points.1.monte_carlo.std", lambda _: 0.5, "chips", "points.1.monte_carlo.std"),
    ("points.0.monte_carlo.kpp.0.score", lambda _: 0.99, "chips", "monte_carlo.kpp.0.score"),
    ("points.0.monte_carlo.kpp.0.lower_bound", lambda _: 0.98, "chips", "kpp.0.lower_bound"),
    ("points.0.monte_carlo.kpp.0.lower_bound", lambda _: None, "chips", "kpp.0.lower_bound"),
    ("points.0.monte_carlo.kpp.0.needed_trials", one_more, "chips", "kpp.0.lower_bound"),
    ("points.0.monte_carlo.trials", one_more, "settings", "settings.trials"),
    ("effort", lambda _: "thorough", "settings", "settings.effort"),
    ("points.0.worst_found.witness", lambda _: {}, "settings", "settings.witnesses"),
    ("command", lambda text: f"{text} --seed 3", "settings", "command"),
    ("device.tolerance_fraction", lambda t: t / 2, "device_numbers", "device.tolerance_fraction"),
    ("safe.unrefuted.tolerance", lambda _: 0.15, "safe", "safe.unrefuted"),
    ("safe.unrefuted.tried", lambda tried: tried[1:], "safe", "safe.unrefuted.tried"),
    ("safe.certified.fails_at", lambda _: None, "safe", "safe.certified.tolerance"),
    ("safe.statistical.k", lambda _: 5.0, "safe", "safe.statistical.k"),
    ("safe.statistical.tolerance", lambda _: 0.3, "safe", "safe.statistical.tolerance"),
    ("safe.statistical.fails_at", lambda _: 0.1, "safe", "safe.statistical.tolerance"),
    ("safe.statistical.fresh_trials", lambda _: 300, "safe", "safe.statistical.fresh_trials"),
    ("safe.statistical.test_confidence", lambda _: 0.95, "safe", "statistical.fresh_trials"),
]


def test_the_genuine_sweep_contradicts_itself_nowhere() -> None:
    assert contradicted(plain()) == {}


@pytest.mark.parametrize(
    ("place", "change", "check", "named"),
    CHANGES,
    ids=[f"{place} {number}" for number, (place, *_) in enumerate(CHANGES)],
)
def test_one_changed_number_is_found_and_named(
    place: str, change: Callable[[Any], Any], check: str, named: str
) -> None:
    values = plain()
    put(place, change)(values)
    assert named in contradicted(values)[check]


def test_a_bound_that_drawn_chips_miss_is_no_statistical_claim() -> None:
    values = plain()
    # Below the required score at the larger tolerance: the claim may not reach it.
    values["points"][1]["monte_carlo"]["kpp"][0].update(score=0.875, lower_bound=0.875)
    values["points"][1]["monte_carlo"].update(min=0.875)
    assert "safe.statistical.tolerance" in contradicted(values)["safe"]


def test_a_claim_without_a_bound_names_no_tolerance() -> None:
    values = plain()
    for point in values["points"]:
        point["certified"].update(score=None, correct=None, reason="too costly")
    assert "safe.certified.tolerance" in contradicted(values)["safe"]


def test_a_required_score_that_nothing_is_said_of_is_refuted() -> None:
    values = plain()
    values["safe"] = None
    assert contradicted(values)["safe"] == "a score is required, and nothing is said"


def test_a_sweep_without_points_is_refused() -> None:
    sweep = SweepModel.model_validate({**plain(), "points": []})
    with pytest.raises(InputRefusedError, match="sweep must have at least one tolerance"):
        list(sweep_number_checks(sweep))
