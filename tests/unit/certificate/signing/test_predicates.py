"""The public test result says PASSED for what is passed, and for nothing else."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import pytest

from cimrobust.certificate.models import Word
from cimrobust.certificate.models.attested import Attestation
from cimrobust.certificate.signing.predicates import as_test_result, canonical_digest


def attestation(word: str, *requirements: tuple[str, str], policy: bool = True) -> Attestation:
    plain: dict[str, Any] = {
        "schema_version": "1.0",
        "tool": {"name": "cimrobust", "version": "1"},
        "word": word,
        "sentence": "",
        "requirements": [
            {"id": name, "text": "", "status": status} for name, status in requirements
        ],
        "policy": {"sha256": "1" * 64, "content": {}} if policy else None,
        "device": {"name": "rram", "sha256": "2" * 64, "tolerance_fraction": 0.03},
        "data": {"digits.npz": "3" * 64},
        "samples": 5,
        "trials": 300,
        "effort": "quick",
        "scores": {
            "metric": "accuracy",
            "higher_is_better": True,
            "clean": 1.0,
            "worst_found": 0.5,
            "certified": None,
        },
    }
    return Attestation.model_validate(plain)


@pytest.mark.parametrize("word", get_args(Word))
def test_only_a_pass_is_passed(word):
    assert (as_test_result(attestation(word))["result"] == "PASSED") is word.startswith("PASS_")


def test_an_inconclusive_verdict_is_a_warning_even_where_every_requirement_is_met():
    result = as_test_result(attestation("INCONCLUSIVE", ("worst_found_accuracy", "met")))
    assert result["result"] == "WARNED"


def test_requirements_stand_in_the_list_of_their_status():
    result = as_test_result(attestation("FAIL", ("a", "met"), ("b", "refuted"), ("c", "open")))
    assert (result["passedTests"], result["failedTests"], result["warnedTests"]) == (
        ["a"],
        ["b"],
        ["c"],
    )


@pytest.mark.parametrize(("other", "where"), [("refuted", "failedTests"), ("open", "warnedTests")])
def test_a_name_that_two_requirements_share_passes_only_if_both_do(other, where):
    result = as_test_result(attestation("FAIL", ("kpp_1", "met"), ("kpp_1", other)))
    assert result["passedTests"] == []
    assert result[where] == ["kpp_1"]


def test_configuration_is_policy_profile_and_data():
    def named(made: Attestation) -> dict[str, str]:
        return {
            entry["name"]: entry["digest"]["sha256"][0]
            for entry in as_test_result(made)["configuration"]
        }

    assert named(attestation("FAIL")) == {"policy": "1", "profile": "2", "data/digits.npz": "3"}
    assert named(attestation("FAIL", policy=False)) == {"profile": "2", "data/digits.npz": "3"}


def test_the_digest_of_values_does_not_depend_on_their_order():
    assert (
        canonical_digest({"b": 1.5, "a": ["ä"]})
        == hashlib.sha256('{"a":["ä"],"b":1.5}'.encode()).hexdigest()
    )
