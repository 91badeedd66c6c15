"""Requirements and conditions one by one: what makes each met, refuted or open, and how it is said."""  # noqa: E501

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from cimrobust.certificate.cost_required import cost_matrix
from cimrobust.certificate.judging import Occasion
from cimrobust.certificate.models import CertificateModel, RequirementResult, Verdict
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.policy_tables import Conditions, CostTable
from cimrobust.certificate.verdict import judge
from cimrobust.device.digest import profile_digest
from cimrobust.device.load_profile import load_profile
from cimrobust.montecarlo.trial_table import TrialTable
from tests.unit.report import example

DEVICE = load_profile("rram-write-verify-3pct")
KPP = {"k": 1.0, "confidence": 0.95, "accuracy": 0.9}


def plain() -> dict[str, Any]:
    made = example.certificate()
    made["device"]["profile"] = DEVICE.to_dict()
    made["mapping"]["layers"][0]["tolerance_fraction"] = made["device"]["tolerance_fraction"]
    return made


def certificate(**changes: Any) -> CertificateModel:
    """Return the example with changes in its blocks, by path with double underscores."""
    made = plain()
    for path, value in changes.items():
        *blocks, last = path.split("__")
        place = made
        for name in blocks:
            place = place[name]
        place[last] = value
    return CertificateModel.model_validate(made)


def trials(values: tuple[float, ...] = (0.95,) * 400) -> TrialTable:
    value = np.asarray(values)
    return TrialTable(
        np.arange(value.size), value, np.round(value * 50).astype(np.int64), 50, 0, "accuracy", True
    )


def judged(
    row: dict[str, Any],
    occasion: Occasion | None = None,
    *,
    cost: dict[str, Any] | None = None,
    **changes: Any,
) -> RequirementResult:
    return verdict([{"id": "R", **row}], occasion, cost=cost, **changes).requirements[0]


def verdict(
    rows: list[dict[str, Any]],
    occasion: Occasion | None = None,
    *,
    cost: Any = None,
    conditions: Any = None,
    table: TrialTable | None = None,
    **changes: Any,
) -> Verdict:
    policy = Policy.model_validate({"require": rows, "cost": cost, "conditions": conditions})
    return judge(certificate(**changes), policy, table or trials(), occasion or Occasion())


CERTIFIED = {
    "certified__score": 0.9,
    "certified__correct": 45,
    "certified__reason": None,
    "worst_found__score": 0.92,
    "worst_found__correct": 46,
}


def test_clean_is_judged_on_the_network_that_is_programmed():
    through = judged({"clean_accuracy": 0.935})
    assert through.status == "refuted"
    assert "through converters) is 93.00 %" in through.sentence
    quantised = judged({"clean_accuracy": 0.935}, converters=None, converters_reason="none")
    assert quantised.status == "met"
    assert (
        "94.00 % (47 of 50) on these 50 samples; that of the model file is 96.00 %"
        in quantised.sentence
    )
    assert (
        judged({"clean_accuracy": 0.95}, converters=None, converters_reason="none").status
        == "refuted"
    )


def test_text_of_the_project_stands_in_front_of_the_rule():
    row = judged({"clean_accuracy": 0.9, "text": "It sees stop signs."})
    assert (
        row.text
        == "It sees stop signs. (accuracy, without deviation, at least 90.00 % on these 50 samples)"
    )


def test_beyond_these_samples_the_interval_decides():
    worst = {"worst_found_accuracy": 0.05, "samples": "beyond"}
    assert judged(worst).status == "open"  # 0.1 on these, 0.03 beyond
    assert judged({**worst, "worst_found_accuracy": 0.03}, monte_carlo__min=0.92).status == "met"
    refuted = judged({**worst, "worst_found_accuracy": 0.2})
    assert refuted.status == "refuted"
    assert "and beyond these samples" in refuted.text
    clean = judged({"clean_accuracy": 0.9, "samples": "beyond"}, converters__score=0.96)
    assert clean.status == "open"
    assert "Beyond these samples nothing is stated" in clean.sentence


def test_a_percentile_beyond_these_samples_is_that_of_chips_and_samples_drawn():
    row = {"kpp": {"k": 5.0, "accuracy": 0.7}, "samples": "beyond"}
    assert judged(row).status == "met"
    assert judged({**row, "kpp": {"k": 5.0, "accuracy": 0.9}}).status == "open"
    assert (
        judged({**row, "kpp": {"k": 1.0, "accuracy": 0.7}}).status == "open"
    )  # too few trials for both
    errors = replace(trials(), count=None)
    assert verdict([{"id": "R", **row}], table=errors).requirements[0].status == "open"


def test_nothing_proven_is_no_proof():
    row = judged(
        {"certified_accuracy": 0.05},
        certified__score=0.0,
        certified__correct=0,
        certified__reason=None,
    )
    assert row.status == "open"
    assert "nothing; no decision is certified" in row.sentence


def test_labels_that_are_the_networks_own_decisions_are_agreement():
    own = judged({"clean_accuracy": 0.9}, data__label_source="self")
    assert "Agreement with its own clean decisions" in own.sentence
    assert "accuracy" not in own.sentence
    other = judged(
        {"clean_accuracy": 0.9}, data__label_source="model", data__labels_of={"big.onnx": "ab" * 32}
    )
    assert "Agreement with the decisions of big.onnx, without" in other.text


def test_errors_have_a_unit_and_four_digits():
    errors = {
        "metric": {
            "name": "rmse",
            "higher_is_better": False,
            "unit": "target unit",
            "description": "x",
        },
        "converters": None,
        "converters_reason": "none",
    }
    row = judged(
        {"clean_accuracy": 60.0},
        **errors,
        clean__quantised_score=57.571937,
        clean__quantised_correct=None,
    )
    assert "is 57.57 (unit of the target)" in row.sentence
    errors["metric"] = {**errors["metric"], "name": "mse"}
    assert (
        "(squared unit of the target)"
        in judged({"clean_accuracy": 60.0}, **errors, clean__quantised_score=57.5).sentence
    )


def test_an_error_that_any_network_keeps_is_no_requirement():
    errors = {
        "metric": {
            "name": "rmse",
            "higher_is_better": False,
            "unit": "target unit",
            "description": "x",
        },
        "converters": None,
        "converters_reason": "none",
    }
    proven = {
        **CERTIFIED,
        "certified__score": 6098.19,
        "worst_found__score": 80.0,
        "clean__quantised_score": 57.57,
    }
    made = verdict([{"id": "R", "certified_accuracy": 6100.0}], **errors, **proven)
    assert made.word == "INCONCLUSIVE"
    assert "asks for nothing" in made.requirements[0].sentence
    assert (
        verdict(
            [{"id": "R", "certified_accuracy": 100.0}],
            **errors,
            **{**proven, "certified__score": 90.0},
        ).word
        == "PASS_CERTIFIED"
    )


def test_one_correct_decision_is_no_requirement():
    assert judged({"clean_accuracy": 0.02}).status == "open"
    assert judged({"clean_accuracy": 0.021}).status == "met"


def test_a_green_verdict_names_the_worst_chip_and_where_it_holds():
    drawn = verdict([{"id": "R", "kpp": KPP}])
    assert drawn.word == "PASS_STATISTICAL"
    assert "on these 50 samples" in drawn.sentence
    assert (
        "a chip inside the tolerance of 3 % with accuracy 10.00 % (5 of 50) on these 50 samples; no"
        " requirement asks about it." in drawn.sentence
    )
    proven = verdict([{"id": "R", "certified_accuracy": 0.8}], **CERTIFIED)
    assert proven.word == "PASS_CERTIFIED"
    assert (
        "accuracy at least 90.00 % (45 of 50) on these 50 samples; beyond them nothing is stated."
        in proven.sentence
    )


def test_a_red_verdict_says_why():
    failed = verdict([{"id": "SR-7", "worst_found_accuracy": 0.8}])
    assert failed.word == "FAIL"
    assert "SR-7" in failed.sentence
    assert "10.00 % (5 of 50)" in failed.sentence


def test_cost_is_the_mean_over_the_decisions_of_the_worst_chip():
    # Decisions of the example: 23 of class 0 for 1, 22 of class 1 for 0, 50 in all.
    default = judged({"cost": 0.91})
    assert default.status == "met"
    assert "cost 0.9 on average" in default.sentence
    dear = judged({"cost": 2.0}, cost={"matrix": [[0, 1], [10, 0]]})
    assert dear.status == "refuted"
    assert "22 of class 1 taken for 0" in dear.sentence
    assert judged({"cost": 2.0}, cost={"matrix": [[0] * 3] * 3}).status == "open"
    assert judged({"cost": 0.5, "samples": "beyond"}).status == "open"
    assert (
        judged(
            {"cost": 0.5}, worst_found__confusion=None, worst_found__confusion_reason="too many"
        ).status
        == "open"
    )


def test_costs_are_found_by_index_or_by_name_and_no_class_is_the_dearest():
    pairs = CostTable.model_validate({"pair": [{"label": "stop", "decision": "go", "cost": 50}]})
    assert cost_matrix(pairs, 2, ["go", "stop"]) == [[0, 1, 1], [50, 0, 50]]
    assert cost_matrix(pairs, 2, []) == "no class 'stop'"
    indices = CostTable.model_validate({"pair": [{"label": 1, "decision": 0, "cost": 50}]})
    assert cost_matrix(indices, 2, []) == [[0, 1, 1], [50, 0, 50]]
    assert cost_matrix(indices, 2, ["go", "stop"]) == [[0, 1, 1], [50, 0, 50]]
    assert cost_matrix(indices, 2, ["1", "2"]) == "no class '0'"
    assert cost_matrix(None, 3, [])[0] == [0, 1, 1, 1]


BASELINE = {"no_worse_than_baseline": 0.01}


def against(baseline: CertificateModel, **changes: Any) -> RequirementResult:
    return judged(BASELINE, Occasion(baseline=baseline), **changes)


def test_a_network_may_lose_what_is_allowed_and_no_more():
    assert against(certificate(worst_found__score=0.11)).status == "met"
    assert against(certificate(worst_found__score=0.12)).status == "refuted"
    assert against(certificate(converters__score=0.95)).status == "refuted"
    assert judged(BASELINE).status == "open"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data__files": {"d.npz": "00" * 32}}, "other samples"),
        ({"data__used": 40}, "other samples"),
        ({"device__profile": {**DEVICE.to_dict(), "name": "other"}}, "other devices"),
        ({"worst_found__effort": "thorough"}, "effort thorough"),
    ],
)
def test_only_certificates_made_alike_are_compared(changes, reason):
    row = against(certificate(**changes))
    assert row.status == "open"
    assert reason in row.sentence


def condition(asked: dict[str, Any], occasion: Occasion | None = None, **changes: Any) -> str:
    made = verdict([{"id": "R", "kpp": KPP}], occasion, conditions=asked, **changes)
    (row,) = made.requirements[1:]
    assert row.id.startswith("condition: ")
    assert made.word == ("PASS_STATISTICAL" if row.status == "met" else "INCONCLUSIVE")
    return row.status


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"metric": "accuracy"}, "met"),
        ({"metric": "rmse"}, "refuted"),
        ({"device": "rram-write-verify-3pct"}, "met"),
        ({"device": "another"}, "refuted"),
        ({"device": f"sha256:{profile_digest(DEVICE)}"}, "met"),
        ({"device": f"sha256:{'0' * 64}"}, "refuted"),
        ({"least_tolerance": 0.03}, "met"),
        ({"least_tolerance": 0.031}, "refuted"),
        ({"least_samples": 50}, "met"),
        ({"least_samples": 51}, "refuted"),
        ({"data_sha256": "cd" * 32}, "met"),
        ({"data_sha256": ["00" * 32, "cd" * 32]}, "met"),
        ({"data_sha256": "00" * 32}, "refuted"),
        ({"model_sha256": "ab" * 32}, "met"),
        ({"model_sha256": ["00" * 32]}, "refuted"),
        ({"effort": "quick"}, "met"),
        ({"effort": "standard"}, "refuted"),
        ({"least_trials": 10}, "met"),
        ({"least_trials": 11}, "refuted"),
        ({"tool": "0.1"}, "met"),
        ({"tool": "0.1.0.0"}, "met"),
        ({"tool": "0.1.1"}, "refuted"),
        ({"tool": "0.10"}, "refuted"),
        ({"newest_days": 3}, "refuted"),
    ],
)
def test_conditions(asked, status):
    assert condition(asked) == status


def test_every_condition_is_tested():
    marks = [mark for mark in test_conditions.pytestmark if mark.name == "parametrize"]
    assert {key for asked, _ in marks[0].args[1] for key in asked} == set(Conditions.model_fields)


def test_a_shipped_name_stands_for_the_shipped_profile():
    other = {**DEVICE.to_dict(), "tile": {"rows": 64, "columns": 128}}
    assert condition({"device": "rram-write-verify-3pct"}, device__profile=other) == "refuted"
    own = {**DEVICE.to_dict(), "name": "ours"}
    assert condition({"device": "ours"}, device__profile=own) == "met"


def test_a_layer_that_deviates_less_is_not_examined_as_asked():
    layer = {**plain()["mapping"]["layers"][0], "tolerance_fraction": 0.01}
    assert condition({"least_tolerance": 0.03}, mapping__layers=[layer]) == "refuted"


@pytest.mark.parametrize(
    ("issued", "today", "status"),
    [
        ("2026-11-01", "2026-11-04", "met"),
        ("2026-11-01", "2026-11-05", "refuted"),
        ("2026-11-05", "2026-11-04", "refuted"),
        ("soon", "2026-11-04", "refuted"),
    ],
)
def test_age(issued, today, status):
    assert (
        condition({"newest_days": 3}, Occasion(today=date.fromisoformat(today)), issued=issued)
        == status
    )


def test_without_a_day_the_age_is_that_of_the_day_of_issue():
    assert condition({"newest_days": 0}, issued="2026-11-01") == "met"


def test_a_refuted_requirement_fails_whatever_the_conditions():
    made = verdict([{"id": "R", "worst_found_accuracy": 0.8}], conditions={"least_samples": 1000})
    assert made.word == "FAIL"
    assert "least_samples" in made.sentence
