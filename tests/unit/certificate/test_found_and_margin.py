"""What a row of a verdict names: the number that decides, how strong it is, and its margin."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from cimrobust.certificate.judging import Occasion
from cimrobust.certificate.models import RequirementResult
from cimrobust.certificate.programmed import (
    programmed_correct,
    programmed_interval,
    programmed_score,
)
from tests.unit.certificate.test_judged_rows import (
    CERTIFIED,
    KPP,
    certificate,
    judged,
    trials,
    verdict,
)
from tests.unit.certificate.test_verdict import safety

RMSE = {
    "name": "rmse",
    "higher_is_better": False,
    "unit": "target unit",
    "description": "root mean square error",
}
#: The example as a certificate of errors: 4 without deviation, 8 of the worst chip, 9 proven.
ERRORS: dict[str, Any] = {
    "metric": RMSE,
    "converters": None,
    "converters_reason": "none",
    "clean__quantised_score": 4.0,
    "clean__quantised_correct": None,
    "worst_found__score": 8.0,
    "worst_found__correct": None,
    "certified__score": 9.0,
    "certified__correct": None,
    "certified__reason": None,
    "monte_carlo__min": 4.0,
    "monte_carlo__max": 5.0,
}


def stated(row: RequirementResult) -> tuple[Any, ...]:
    return row.status, row.found, row.evidence


@pytest.mark.parametrize(
    ("asked", "changes", "wanted"),
    [
        ({"clean_accuracy": 0.9}, {}, ("met", 0.93, "measured")),
        ({"clean_accuracy": 0.94}, {}, ("refuted", 0.93, "measured")),
        ({"worst_found_accuracy": 0.05}, {}, ("met", 0.1, "searched")),
        ({"worst_found_accuracy": 0.2}, {}, ("refuted", 0.1, "searched")),
        ({"worst_found_accuracy": 0.05}, {"monte_carlo__min": 0.06}, ("met", 0.06, "searched")),
        ({"certified_accuracy": 0.8}, CERTIFIED, ("met", 0.9, "proved")),
        ({"certified_accuracy": 0.91}, CERTIFIED, ("open", 0.9, "proved")),
        ({"certified_accuracy": 0.93}, CERTIFIED, ("refuted", 0.92, "searched")),
        ({"kpp": KPP}, {}, ("met", 0.95, "statistical")),
        ({"kpp": {**KPP, "accuracy": 0.96}}, {}, ("refuted", 0.95, "statistical")),
        ({"clean_accuracy": 4.0}, ERRORS, ("met", 4.0, "measured")),
        ({"clean_accuracy": 3.9}, ERRORS, ("refuted", 4.0, "measured")),
        ({"worst_found_accuracy": 8.0}, ERRORS, ("met", 8.0, "searched")),
        ({"worst_found_accuracy": 8.5}, {**ERRORS, "monte_carlo__max": 8.25}, ("met", 8.25,
         "searched")),
        ({"certified_accuracy": 9.5}, ERRORS, ("met", 9.0, "proved")),
        ({"certified_accuracy": 8.5}, ERRORS, ("open", 9.0, "proved")),
        ({"certified_accuracy": 7.5}, ERRORS, ("refuted", 8.0, "searched")),
    ],
)  # fmt: skip
def test_the_number_that_decides_and_its_margin(
    asked: dict[str, Any], changes: dict[str, Any], wanted: tuple[Any, ...]
) -> None:
    row = judged(asked, **changes)
    assert stated(row) == wanted
    status, found, _ = wanted
    kept = row.threshold - found if changes.get("metric") == RMSE else found - row.threshold
    assert row.margin == kept
    assert (kept >= 0) is (status == "met")


def test_costs_and_losses_against_a_baseline_are_kept_where_they_are_small() -> None:
    row = judged({"cost": 0.95})
    assert row.margin == pytest.approx(0.05)
    baseline = Occasion(baseline=certificate(worst_found__score=0.105))
    assert judged({"no_worse_than_baseline": 0.01}, baseline).margin == pytest.approx(0.005)


def test_a_recall_is_a_share_whatever_the_metric() -> None:
    classes = [{"label": 3, "samples": 10, "clean": 9, "worst": 8}]
    row = judged({"safety_class": {"label": 3, "recall": 0.9}}, **ERRORS, clean__per_class=classes)
    assert stated(row) == ("refuted", 0.8, "searched")
    assert row.margin == pytest.approx(-0.1)


def test_what_is_not_stated_beyond_the_samples_keeps_only_what_refutes_it() -> None:
    asked = {"certified_accuracy": 0.8, "samples": "beyond"}
    assert stated(judged(asked, **CERTIFIED)) == ("open", None, None)
    refuted = judged({**asked, "certified_accuracy": 0.93}, **CERTIFIED)
    assert stated(refuted) == ("refuted", 0.92, "searched")
    assert refuted.margin == pytest.approx(-0.01)


def test_beyond_the_samples_the_lower_end_of_the_interval_is_found() -> None:
    row = judged({"worst_found_accuracy": 0.03, "samples": "beyond"}, monte_carlo__min=0.92)
    assert stated(row)[::2] == ("met", "statistical")
    assert "Beyond these samples it is at least" in row.sentence
    assert "with 95 % confidence, if they were drawn independently" in row.sentence
    refuted = judged({"worst_found_accuracy": 0.2, "samples": "beyond"})
    assert stated(refuted) == ("refuted", 0.1, "searched")


def test_what_is_proven_is_said_with_its_side_and_count() -> None:
    said = judged({"certified_accuracy": 0.8}, **CERTIFIED).sentence
    assert "Proven: every chip within the tolerance has accuracy at least 90.00 % (45 of" in said
    of_errors = judged({"certified_accuracy": 9.5}, **ERRORS).sentence
    assert "has root mean square error at most 9 (unit of the target)" in of_errors
    exact = judged({"certified_accuracy": 9.5}, **{**ERRORS, "certified__score": 0.0}).sentence
    assert "at most 0 (unit of the target)" in exact


@pytest.mark.parametrize(
    ("samples", "where"),
    [
        (["these"], "on these 50 samples."),
        (["beyond"], "on these samples and beyond them."),
        (["these", "beyond"], "on these 50 samples."),
    ],
)
def test_a_statistical_pass_says_where_it_holds(samples: list[str], where: str) -> None:
    kpp = {"k": 5.0, "accuracy": 0.7}
    rows = [{"id": f"R{name}", "kpp": kpp, "samples": name} for name in samples]
    made = verdict(rows)
    assert made.word == "PASS_STATISTICAL"
    assert f"for chips drawn as stated, {where}" in made.sentence
    clean = {"id": "R", "clean_accuracy": 0.9}
    assert f"for chips drawn as stated, {where}" in verdict([*rows, clean]).sentence


@pytest.mark.parametrize(
    ("issued", "status", "sentence"),
    [
        (None, "refuted", "It states no day of issue (analyze --issued)."),
        ("soon", "refuted", "It states no day of issue (analyze --issued)."),
        ("2026-11-02", "met", "It was issued on 2026-11-02."),
        ("2026-11-01", "refuted", "It was issued on 2026-11-01."),
    ],
)
def test_evidence_may_have_to_be_issued_after_a_day(
    issued: str | None, status: str, sentence: str
) -> None:
    occasion = Occasion(issued_after=date(2026, 11, 1))
    reason = None if issued else "no day was given"
    made = verdict([{"id": "R", "kpp": KPP}], occasion, issued=issued, issued_reason=reason)
    row = made.requirements[-1]
    assert (row.id, row.status, row.sentence) == ("condition: issued_after", status, sentence)
    assert "a day of issue after 2026-11-01" in row.text
    assert (made.word == "PASS_STATISTICAL") is (status == "met")


def test_a_comparison_that_the_occasion_adds_has_an_id_of_its_own() -> None:
    rows = [
        {"id": "no_worse_than_baseline", "kpp": KPP},
        {"id": "no_worse_than_baseline#2", "kpp": KPP},
    ]
    occasion = Occasion(baseline=certificate(), no_worse_than=0.0)
    made = verdict(rows, occasion)
    assert [row.id for row in made.requirements][2:] == ["no_worse_than_baseline#3"]
    alone = verdict([{"id": "R", "kpp": KPP}], occasion)
    assert [row.id for row in alone.requirements] == ["R", "no_worse_than_baseline"]


def test_without_a_bound_nothing_is_found_and_an_open_one_is_the_bound() -> None:
    few = verdict([{"id": "R", "kpp": KPP}], table=trials((0.95,) * 10)).requirements[0]
    assert stated(few) == ("open", None, None)
    mixed = trials((0.8,) * 5 + (0.95,) * 395)
    row = verdict([{"id": "R", "kpp": KPP}], table=mixed).requirements[0]
    assert stated(row) == ("open", 0.8, "statistical")


def test_the_lowest_recall_that_is_known_is_found() -> None:
    classes = [{"label": 3, "samples": 10, "clean": 8, "worst": 9}]
    asked = {"safety_class": {"label": 3, "recall": 0.85}}
    row = judged(asked, clean__per_class=classes)
    assert stated(row) == ("refuted", 0.8, "searched")
    assert row.sentence == "Without deviation, class 3 has a recall of 80.00 %."
    unknown = judged(asked, clean__per_class=None)
    assert stated(unknown) == ("open", None, None)


def test_a_cost_that_is_reached_exactly_is_kept() -> None:
    assert stated(judged({"cost": 0.9})) == ("met", 0.9, "searched")


def test_what_may_be_lost_is_said_in_the_unit_of_the_score() -> None:
    baseline = Occasion(baseline=certificate())
    assert (
        "at most 1 percentage points below"
        in judged({"no_worse_than_baseline": 0.01}, baseline).text
    )
    of_errors = Occasion(baseline=certificate(**ERRORS))
    row = judged({"no_worse_than_baseline": 0.5}, of_errors, **ERRORS)
    assert "at most 0.5 (unit of the target) above those of the baseline" in row.text
    assert stated(row) == ("met", 0.0, "searched")


@pytest.mark.parametrize(("slack", "status"), [(0.92, "met"), (0.93, "open"), (0.94, "open")])
def test_a_loss_of_all_that_the_baseline_has_asks_for_nothing(slack: float, status: str) -> None:
    # Without deviation, through converters, the baseline has 0.93.
    row = judged({"no_worse_than_baseline": slack}, Occasion(baseline=certificate()))
    assert row.status == status


@pytest.mark.parametrize(("allowed", "status"), [(49.0, "met"), (51.0, "open")])
def test_an_error_below_one_has_a_hundredfold_too(allowed: float, status: str) -> None:
    changes = {**ERRORS, "clean__quantised_score": 0.5}
    assert judged({"clean_accuracy": allowed}, **changes).status == status


def test_the_network_that_is_programmed_is_that_of_its_converters() -> None:
    through = certificate(converters__score=0.9, converters__correct=45)
    assert (programmed_score(through), programmed_correct(through)) == (0.9, 45)
    assert programmed_interval(through) == "converters"
    ideal = certificate(converters=None, converters_reason="none")
    assert (programmed_score(ideal), programmed_correct(ideal)) == (0.94, 47)
    assert programmed_interval(ideal) == "quantised"


def test_a_percentile_that_drawn_chips_refute_is_found_among_them_beyond_too() -> None:
    asked = {"kpp": {"k": 5.0, "accuracy": 0.96}, "samples": "beyond"}
    assert stated(judged(asked)) == ("refuted", 0.95, "statistical")
    met = judged({**asked, "kpp": {"k": 5.0, "accuracy": 0.7}})
    assert met.status == "met"
    assert met.found is not None
    assert 0.7 <= met.found < 0.95


def test_a_class_that_was_searched_for_is_not_proven_by_it() -> None:
    assert safety(0.9, own=(3, 0.95))[1].endswith(
        "That refutes nothing, and proves nothing about chips that were not tried."
    )
    assert "refutes nothing" not in safety(0.9, own=(3, 0.85))[1]


def conditioned(asked: dict[str, Any], **changes: Any) -> RequirementResult:
    return verdict([{"id": "R", "kpp": KPP}], conditions=asked, **changes).requirements[-1]


@pytest.mark.parametrize(
    ("version", "least", "status"),
    [
        ("0.10.0", "0.9", "met"),
        ("0.10.0", "0.10.0.1", "refuted"),
        ("1.2rc3", "1.2", "met"),
        ("1.2rc3.9", "1.2.1", "refuted"),
        ("next", "0.1", "refuted"),
        ("", "0.1", "refuted"),
    ],
)
def test_versions_are_compared_number_by_number(version: str, least: str, status: str) -> None:
    assert conditioned({"tool": least}, tool__version=version).status == status


def test_another_tool_is_of_no_version() -> None:
    row = conditioned({"tool": "0.1"}, tool__name="other", tool__version="9.0")
    assert (row.status, row.sentence) == ("refuted", "It was made by other 9.0.")


@pytest.mark.parametrize("files", [{}, {"d.toml": "cd" * 32}])
def test_data_without_a_digest_are_none_of_those_asked_for(files: dict[str, str]) -> None:
    row = conditioned({"data_sha256": "cd" * 32}, data__files=files)
    assert (row.status, row.sentence) == (
        "refuted",
        "The evaluation data has no file with a digest.",
    )


def test_every_file_has_to_be_among_those_asked_for() -> None:
    files = {"a.npz": "cd" * 32, "b.npz": "ef" * 32}
    row = conditioned({"data_sha256": "cd" * 32}, data__files=files)
    assert (row.status, "sha256 efefefefefefefef..., which is not" in row.sentence) == (
        "refuted",
        True,
    )
    row = conditioned({"data_sha256": ["cd" * 32, "ef" * 32]}, data__files=files)
    assert row.status == "met"
    assert row.text == "Evidence counts with a certain evaluation data (2 digests)"
    assert "cdcdcdcdcdcdcdcd..., efefefefefefefef..." in row.sentence
