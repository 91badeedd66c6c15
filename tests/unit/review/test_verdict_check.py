"""The verdict of a certificate, given again: by the rules of today, or as far as they tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.verdict_check import verdict_check
from tests.unit.review.test_consistency import Plain, plain

TRIALS = TrialTable(
    np.arange(1000), np.full(1000, 182 / 190), np.full(1000, 182), 190, 0, "accuracy", True
)


def checked(change: Plain, *, version: str | None = None, **blocks: Plain) -> ReplayCheck:
    """Check the example with other values in its verdict, and in other blocks."""
    values = plain()
    values["verdict"].update(change)
    for name, block in blocks.items():
        values[name].update(block)
    if version is not None:
        values["tool"]["version"] = version
    return verdict_check(CertificateModel.model_validate(values), TRIALS)


def rows(**changes: Any) -> list[Plain]:
    """The requirements of the example, each with these values."""
    return [{**row, **changes} for row in plain()["verdict"]["requirements"]]


def test_a_verdict_of_today_is_given_again() -> None:
    assert checked({}) == ReplayCheck("verdict", True, "PASS_STATISTICAL")


@pytest.mark.parametrize(
    "change",
    [
        {"word": "PASS_CERTIFIED"},
        {"sentence": "All is well."},
        {"requirements": rows()[1:]},
        {"requirements": rows(margin=0.5)},
    ],
)
def test_another_one_is_refuted(change: Plain) -> None:
    assert checked(change) == ReplayCheck("verdict", False, "PASS_STATISTICAL")


def test_what_is_required_of_nothing_passes_nothing() -> None:
    none: Plain = {"policy": None, "policy_reason": "no policy was given"}
    values = {**plain(), **none}
    assert verdict_check(CertificateModel.model_validate(values), TRIALS) == ReplayCheck(
        "verdict", False, "INCONCLUSIVE"
    )


def test_words_of_an_earlier_version_may_be_others() -> None:
    check = checked({"sentence": "It passes.", "requirements": rows(text="x")}, version="0.9.0")
    assert check.held is None
    assert "judged by an earlier version's rules" in check.detail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"word": "FAIL"}, "FAIL with 0 requirements refuted"),
        (
            {"word": "INCONCLUSIVE", "requirements": rows(status="refuted")},
            "INCONCLUSIVE with 4 requirements refuted",
        ),
        ({"requirements": rows(status="open")}, "PASS_STATISTICAL with 4 requirements open"),
        ({"requirements": rows()[:2]}, "2 requirements judged, of 3"),
    ],
)
def test_an_earlier_version_did_not_contradict_itself_either(change: Plain, said: str) -> None:
    check = checked(change, version="0.9.0")
    assert check.held is False
    assert said in check.detail


def test_no_version_passed_what_had_no_policy() -> None:
    values = {**plain(), "policy": None, "policy_reason": "none was given"}
    values["tool"]["version"] = "0.9.0"
    check = verdict_check(CertificateModel.model_validate(values), TRIALS)
    assert check.held is False
    assert "PASS_STATISTICAL with 0 requirements open" in check.detail


def test_what_is_met_is_refuted_by_no_rule_of_today() -> None:
    check = checked({}, version="0.9.0", worst_found={"score": 0.7})
    assert check.held is False
    assert check.detail.endswith("worst_found_accuracy")


def test_as_many_requirements_as_there_are_is_enough() -> None:
    assert checked({"requirements": rows()[:3]}, version="0.9.0").held is None


@pytest.mark.parametrize(("score", "held"), [(0.95, None), (0.951, False)])
def test_an_error_that_is_met_is_at_most_what_is_allowed(score: float, held: bool | None) -> None:
    rmse = {"name": "rmse", "higher_is_better": False, "unit": "target unit"}
    clean = {"score": 2.0, "quantised_score": score}
    # Every other requirement is left out: its numbers are those of an accuracy.
    values = plain()
    values["policy"]["require"] = {"clean_accuracy": 0.95}
    values["tool"]["version"] = "0.9.0"
    values["metric"] |= rmse
    values["clean"] |= clean
    check = verdict_check(CertificateModel.model_validate(values), TRIALS)
    assert check.held is held


@pytest.mark.parametrize(
    ("score", "quantised", "held"), [(0.96, 0.9, None), (0.9, 0.96, None), (0.949, 0.949, False)]
)
def test_earlier_versions_judged_the_score_of_the_file_or_of_its_quantised_weights(
    score: float, quantised: float, held: bool | None
) -> None:
    check = checked({}, version="0.9.0", clean={"score": score, "quantised_score": quantised})
    assert check.held is held
    assert check.detail.endswith("clean_accuracy") is (held is False)
