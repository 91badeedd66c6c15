"""Verdicts: what a policy asks, and what the numbers allow to be said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.certificate.models import (
    CertificateModel,
    ClassAttack,
    ClassAttacks,
    ClassRow,
    Diagnostics,
    SafetyClass,
)
from cimrobust.certificate.policy import Policy
from cimrobust.certificate.verdict import judge
from cimrobust.montecarlo.trial_table import TrialTable
from tests.unit.report import example


def trials(values, metric="accuracy") -> TrialTable:
    values = np.asarray(values, dtype=np.float64)
    return TrialTable(np.arange(values.size), values, None, 100, 0, metric, metric == "accuracy")


BASE = CertificateModel.model_validate(example.certificate())


def certificate(
    *,
    clean=0.98,
    worst=0.5,
    certified=None,
    metric="accuracy",
    effort="quick",
    drawn=(0.9, 0.97),
    decisions=100,
) -> CertificateModel:
    changes = {
        "metric": {"name": metric, "higher_is_better": metric == "accuracy"},
        "clean": {
            "score": clean,
            "quantised_score": clean,
            "quantised_correct": None,
            "samples": decisions,
            "per_class": None,
        },
        "converters": {"score": clean},
        "data": {"used": 100},
        "worst_found": {"score": worst, "effort": effort},
        "certified": {
            "score": certified,
            "reason": None if certified is not None else "not computed",
        },
        "monte_carlo": {"min": drawn[0], "max": drawn[1]},
    }
    return changed(BASE, **changes)


def changed(made: CertificateModel, **changes) -> CertificateModel:
    return made.model_copy(
        update={
            name: getattr(made, name).model_copy(update=change) for name, change in changes.items()
        }
    )


def word(require, values=(0.95,) * 400, **more) -> str:
    return judge(
        certificate(**more),
        Policy.model_validate({"require": require}),
        trials(values, more.get("metric", "accuracy")),
    ).word


KPP = {"k": 1, "confidence": 0.95, "accuracy": 0.9}


@pytest.mark.parametrize(
    ("require", "more", "expected"),
    [
        ({"kpp": KPP}, {}, "PASS_STATISTICAL"),
        ({"kpp": KPP, "clean_accuracy": 0.98}, {}, "PASS_STATISTICAL"),
        ({"kpp": KPP, "clean_accuracy": 0.99}, {}, "FAIL"),
        ({"kpp": KPP, "worst_found_accuracy": 0.5}, {}, "PASS_STATISTICAL"),
        ({"kpp": KPP, "worst_found_accuracy": 0.51}, {}, "FAIL"),
        ({"worst_found_accuracy": 0.5}, {}, "INCONCLUSIVE"),
        ({"worst_found_accuracy": 0.5}, {"drawn": (0.4, 0.9)}, "FAIL"),
        ({"certified_accuracy": 0.4}, {}, "INCONCLUSIVE"),
        ({"certified_accuracy": 0.6}, {}, "FAIL"),
        ({"certified_accuracy": 0.4}, {"certified": 0.45}, "PASS_CERTIFIED"),
        ({"certified_accuracy": 0.47}, {"certified": 0.45}, "INCONCLUSIVE"),
        ({"kpp": KPP, "effort": "standard"}, {}, "FAIL"),
        ({"kpp": KPP, "effort": "standard"}, {"effort": "thorough"}, "PASS_STATISTICAL"),
    ],
)
def test_words(require, more, expected):
    assert word(require, **more) == expected


def test_too_few_trials_are_open_not_refuted():
    assert word({"kpp": KPP}, values=(0.95,) * 298) == "INCONCLUSIVE"
    assert word({"kpp": KPP}, values=(0.95,) * 299) == "PASS_STATISTICAL"


def test_statistics_refute_only_with_confidence():
    some, many = [0.8] * 5 + [0.95] * 395, [0.8] * 40 + [0.95] * 360
    assert word({"kpp": KPP}, values=some) == "INCONCLUSIVE"
    assert word({"kpp": KPP}, values=many) == "FAIL"


def test_a_run_that_could_stop_is_judged_by_bounds_that_allow_for_it():
    policy = Policy.model_validate({"require": {"kpp": KPP}})
    for count, expected in ((348, "INCONCLUSIVE"), (349, "PASS_STATISTICAL")):
        assert (
            judge(certificate(), policy, replace(trials((0.95,) * count), max_trials=1000)).word
            == expected
        )
    assert judge(certificate(), policy, replace(trials((0.1,) * 3), max_trials=1000)).word == "FAIL"


def test_comparisons_turn_round_where_lower_is_better():
    errors = {"metric": "rmse", "clean": 30.0, "worst": 80.0, "drawn": (31.0, 35.0)}
    assert (
        word({"kpp": {"k": 1, "accuracy": 40.0}}, values=(33.0,) * 400, **errors)
        == "PASS_STATISTICAL"
    )
    assert word({"kpp": {"k": 1, "accuracy": 32.0}}, values=(33.0,) * 400, **errors) == "FAIL"
    assert word({"worst_found_accuracy": 79.0}, **errors) == "FAIL"
    assert (
        word(
            {"clean_accuracy": 30.0, "kpp": {"k": 1, "accuracy": 40.0}},
            values=(33.0,) * 400,
            **errors,
        )
        == "PASS_STATISTICAL"
    )


def test_no_policy_passes_nothing():
    assert judge(certificate(), None, trials([0.9])).word == "INCONCLUSIVE"


def test_every_requirement_has_a_sentence_with_its_number():
    verdict = judge(
        certificate(worst=0.1234),
        Policy.model_validate({"require": {"worst_found_accuracy": 0.5}}),
        trials([0.9]),
    )
    assert verdict.requirements[0].status == "refuted"
    assert "12.34 %" in verdict.requirements[0].sentence


def safety(recall, *, label=3, own=None, row=None, per_class=None) -> tuple[str, str]:
    blocks = dict.fromkeys(Diagnostics.model_fields)
    if own is not None:
        blocks["safety_class"] = SafetyClass.model_construct(label=own[0], recall=own[1])
    if row is not None:
        blocks["classes"] = ClassAttacks.model_construct(
            rows=[ClassAttack.model_construct(label=row[0], recall=row[1])]
        )
    made = certificate().model_copy(update={"diagnostics": Diagnostics.model_construct(**blocks)})
    rows = None if per_class is None else [ClassRow.model_validate(entry) for entry in per_class]
    made = changed(made, clean={"per_class": rows})
    policy = Policy.model_validate(
        {"require": {"safety_class": {"label": label, "recall": recall}}}
    )
    result = judge(made, policy, trials((0.95,) * 400))
    return result.word, result.requirements[0].sentence


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({"own": (3, 0.85)}, "FAIL"),
        ({"own": (3, 0.9)}, "INCONCLUSIVE"),
        ({"own": (4, 0.1)}, "INCONCLUSIVE"),
        ({"own": (3, 0.95), "row": (3, 0.2)}, "FAIL"),
        ({"row": (3, 0.95)}, "INCONCLUSIVE"),
        ({"per_class": [{"label": 3, "samples": 10, "clean": 10, "worst": 8}]}, "FAIL"),
        ({"per_class": [{"label": 3, "samples": 0, "clean": 0, "worst": 0}]}, "INCONCLUSIVE"),
        ({}, "INCONCLUSIVE"),
    ],
)
def test_a_safety_class_can_be_refuted_and_never_proven_by_a_search(evidence, expected):
    assert safety(0.9, **evidence)[0] == expected


def test_a_safety_class_that_was_not_searched_says_what_to_do():
    assert "--safety-class 3" in safety(0.9)[1]
    assert "--safety-class 3" in safety(0.9, row=(3, 0.95))[1]
    assert "--safety-class" not in safety(0.9, own=(3, 0.95))[1]


def test_several_decisions_a_sample_are_not_called_samples():
    verdict = judge(
        certificate(decisions=6400),
        Policy.model_validate({"require": {"clean_accuracy": 0.9}}),
        trials((0.95,) * 20),
    )
    assert (
        verdict.requirements[0].sentence
        == "Accuracy, without deviation, of the network that is programmed (quantised weights,"
        " through converters) is 98.00 % on these 6400 decisions of 100 samples; that of the"
        " model file is 98.00 %."
    )
