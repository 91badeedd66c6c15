"""What explains a certificate: of an error, one layer, a safety class, or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.found import MOST_CONFUSION
from cimrobust.certificate.read_record import read_result
from cimrobust.diagnose.diagnose_records import MOST_FRAGILE
from cimrobust.review.attacked_numbers import wrong_classes, wrong_layers
from cimrobust.review.consistency import consistency_checks, wrong_timings
from cimrobust.review.curve_numbers import wrong_curve
from cimrobust.review.decision_counts import counts_check
from cimrobust.review.diagnosed_numbers import diagnosed_check
from cimrobust.review.explained_numbers import explained_check
from cimrobust.review.fragile_numbers import wrong_flipped, wrong_fragile_inputs
from cimrobust.review.interval_check import interval_check
from cimrobust.review.transfer_numbers import wrong_transfer
from tests.unit.review.test_consistency import Plain, plain

GOLDEN = Path(__file__).parents[2] / "golden" / "results"


def made(values: Plain) -> CertificateModel:
    return CertificateModel.model_validate(values)


def test_a_certificate_without_diagnostics_contradicts_none() -> None:
    values = {**plain(), "diagnostics": None, "diagnostics_reason": "left out"}
    assert explained_check(made(values)).held
    assert diagnosed_check(made(values)).held


@pytest.mark.parametrize("part", ["layers", "classes", "transfer", "tolerance_curve"])
def test_a_diagnostic_that_was_not_run_contradicts_nothing(part: str) -> None:
    values = plain()
    values["diagnostics"] |= {part: None, f"{part}_reason": "left out"}
    for wrong in (wrong_layers, wrong_classes, wrong_transfer, wrong_curve, wrong_fragile_inputs):
        assert list(wrong(made(values))) == []


def of_errors() -> Plain:
    """The example as if its scores were errors: less is better, and nothing is counted."""
    values = plain()
    values["metric"] |= {"name": "rmse", "higher_is_better": False, "unit": "target unit"}
    values["worst_found"]["replay"]["engine_score"] = 0.4
    values["clean"] |= {"score": 0.1, "quantised_score": 0.1}
    found = values["diagnostics"]
    scores = iter((0.4, 0.3, 0.2))
    for row in found["layers"]["rows"]:
        row["alone"] |= {"score": next(scores), "correct": None}
        row["others"] |= {"score": 0.3, "correct": None}
    for point, score in zip(
        found["tolerance_curve"]["points"], (0.1, 0.2, 0.3, 0.4, 0.5), strict=True
    ):
        point |= {"score": score, "correct": None}
    values["policy"]["require"]["worst_found_accuracy"] = 0.8
    # No error of the proof is below what is required.
    for point in values["certified"]["curve"]:
        point["score"] = 0.9
    found["tolerance_curve"]["certified"] = None
    return values


def test_errors_grow_with_the_tolerance_and_layers_begin_with_the_largest() -> None:
    assert list(wrong_layers(made(of_errors()))) == []
    assert list(wrong_curve(made(of_errors()))) == []


def test_errors_in_another_order_are_found() -> None:
    values = of_errors()
    values["diagnostics"]["layers"]["rows"].reverse()
    assert list(wrong_layers(made(values))) == ["diagnostics.layers.rows"]
    values["diagnostics"]["tolerance_curve"]["points"][1]["score"] = 0.35
    assert "diagnostics.tolerance_curve.points.score" in wrong_curve(made(values))


def test_an_error_beyond_the_worst_found_is_found() -> None:
    values = of_errors()
    values["diagnostics"]["layers"]["rows"][0]["alone"]["score"] = 0.41
    assert list(wrong_layers(made(values))) == ["diagnostics.layers.rows.0.alone.score"]


def test_an_error_has_no_count() -> None:
    values = of_errors()
    values["diagnostics"]["layers"]["rows"][1]["others"]["correct"] = 180
    values["diagnostics"]["tolerance_curve"]["points"][0]["correct"] = 180
    assert list(wrong_layers(made(values))) == ["diagnostics.layers.rows.1.others.score"]
    assert list(wrong_curve(made(values))) == ["diagnostics.tolerance_curve.points.score"]


@pytest.mark.parametrize(("allowed", "is_wrong"), [(0.2, False), (0.25, True)])
def test_without_a_policy_twice_the_error_is_required(allowed: float, is_wrong: bool) -> None:
    values = of_errors() | {"policy": None, "policy_reason": "none was given"}
    values["diagnostics"]["tolerance_curve"] |= {"required": allowed, "required_by": "the error"}
    found = list(wrong_curve(made(values)))
    assert ("diagnostics.tolerance_curve.required" in found) is is_wrong
    assert "diagnostics.tolerance_curve.required_by" not in found


def test_a_chip_of_a_later_diagnostic_may_be_worse_than_the_curve() -> None:
    values = plain()
    values["worst_found"]["replay"]["engine_score"] = 178 / 190
    assert "diagnostics.tolerance_curve.points.score" in wrong_curve(made(values))
    values["worst_found"]["member"] = "diagnostic_write_verify"
    assert list(wrong_curve(made(values))) == []


def test_one_layer_has_no_others() -> None:
    values = plain()
    values["mapping"]["layers"] = values["mapping"]["layers"][:1]
    rows = values["diagnostics"]["layers"]["rows"]
    values["diagnostics"]["layers"]["rows"] = [{**rows[0], "others": None}]
    assert list(wrong_layers(made(values))) == []


SAFETY = {
    "label": 1,
    "samples": 119,
    "clean": 115 / 119,
    "recall": 100 / 119,
    "correct": 100,
    "overall": 0.9,
    "member": "margin",
    "effort": "quick",
    "passes": 1,
    "has_twin": True,
    "replay_note": "again",
    "witness": {},
}


def with_safety(asked: int | None = 1, **changes: Any) -> CertificateModel:
    values = plain()
    assert [row["samples"] for row in values["clean"]["per_class"]] == [71, 119]
    values["settings"] = [
        {**row, "value": asked} if row["key"] == "safety-class" else row
        for row in values["settings"]
    ]
    values["diagnostics"] |= {"safety_class": {**SAFETY, **changes}, "safety_class_reason": None}
    return made(values)


def test_a_safety_class_is_that_of_its_class() -> None:
    assert explained_check(with_safety()).held
    assert explained_check(with_safety(label=0, asked=0, samples=71, clean=67 / 71)).held is False


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"asked": 0}, "label"),
        ({"asked": None}, "label"),
        ({"recall": 0.9}, "recall"),
        ({"correct": 101}, "recall"),
        ({"samples": 118, "recall": 100 / 118}, "samples"),
        ({"clean": 0.9}, "clean"),
        ({"label": 0, "asked": 0}, "samples"),
    ],
)
def test_a_safety_class_of_other_numbers_is_found(changes: Plain, named: str) -> None:
    check = explained_check(with_safety(**changes))
    assert check.held is False
    assert f"diagnostics.safety_class.{named}" in check.detail


def test_a_safety_class_without_samples_has_a_recall_of_none() -> None:
    values = with_safety(samples=0, correct=0, recall=0.0).model_dump()
    values["clean"]["per_class"] = None
    assert explained_check(made(values)).held


def test_the_change_of_an_effect_is_that_to_the_row_before_it() -> None:
    values = plain()
    row = values["diagnostics"]["effects"][2]
    row |= {"low": 0.9, "mean": 0.9, "high": 0.9, "change": 0.9 - row["mean"]}
    assert explained_check(made(values)).held
    row["change"] = 0.0
    assert "diagnostics.effects.2.change" in explained_check(made(values)).detail


@pytest.mark.parametrize(("decisions", "is_wrong"), [((1, 1), False), ((1, 2), True)])
def test_two_decisions_may_fall_otherwise_in_halves(
    decisions: tuple[int, int], is_wrong: bool
) -> None:
    values = plain()
    first, second = values["diagnostics"]["transfer"]["directions"]
    first["searched_clean"] -= decisions[0] / 95
    second["held_out_clean"] -= decisions[0] / 95
    first["held_out_clean"] -= decisions[1] / 95
    second["searched_clean"] -= decisions[1] / 95
    wrong = "diagnostics.transfer.directions" in wrong_transfer(made(values))
    assert wrong is is_wrong


def test_inputs_on_the_edge_may_flip() -> None:
    values = plain()
    values["worst_found"]["flipped"]["rows"][0] |= {"margin": 0.0, "worst_margin": 0.0}
    assert list(wrong_flipped(made(values))) == []
    values["diagnostics"]["fragile_inputs"]["rows"][0]["margin"] = 0.0
    assert list(wrong_fragile_inputs(made(values))) == []


def test_more_chips_of_their_own_than_inputs_tried_are_found() -> None:
    values = plain()
    values["diagnostics"]["fragile_inputs"]["own_chips"] = 2 * MOST_FRAGILE
    assert list(wrong_fragile_inputs(made(values))) == []
    values["diagnostics"]["fragile_inputs"]["own_chips"] += 1
    assert list(wrong_fragile_inputs(made(values))) == ["diagnostics.fragile_inputs.own_chips"]


@pytest.mark.parametrize(("classes", "held"), [(MOST_CONFUSION, False), (MOST_CONFUSION + 1, True)])
def test_of_many_classes_there_is_no_table(classes: int, held: bool) -> None:
    values = plain()
    rows = [{"label": label, "samples": 0, "clean": 0, "worst": 0} for label in range(classes)]
    rows[0]["samples"] = 190
    values["clean"]["per_class"] = rows
    values["worst_found"] |= {"confusion": None, "confusion_reason": "too many classes"}
    assert counts_check(made(values)).held is held


def test_a_run_that_could_stop_has_no_interval_of_the_mean() -> None:
    values = plain()
    values["monte_carlo"] |= {
        "stopping": {
            "max_trials": 1000,
            "stopped": False,
            "rule": "x",
            "targets": [],
            "statement": "y",
        },
        "stopping_reason": None,
    }
    assert interval_check(made(values)).held is False
    rows = values["evaluation_set"]["intervals"]
    values["evaluation_set"]["intervals"] = [row for row in rows if row["name"] != "mean"]
    assert interval_check(made(values)).held


@pytest.mark.parametrize("layer_bits", [{"levels_given": True}, {}])
def test_only_given_levels_may_take_fewer_bits_than_the_profile(layer_bits: Plain) -> None:
    values = plain()
    values["mapping"]["layers"][0] |= {**layer_bits, "weight_bits": 4}
    wrong = next(
        check for check in consistency_checks(made(values)) if check.id == "device_numbers"
    )
    assert ("weight_bits" in wrong.detail) is (not layer_bits)


@pytest.mark.parametrize(("off", "held"), [(0.008, True), (0.0095, False), (-0.02, False)])
def test_seconds_of_eight_stages_are_rounded_by_themselves(off: float, held: bool) -> None:
    values = plain()
    stages = values["timings"]["stages"]
    assert len(stages) == 8
    values["timings"]["total_seconds"] = sum(stages.values()) + off
    assert (list(wrong_timings(made(values).timings)) == []) is held


def test_where_what_is_right_is_not_counted_all_may_have_been() -> None:
    values = plain()
    values["clean"]["correct"] = None
    values["worst_found"]["flipped"]["count"] = 11
    assert list(wrong_flipped(made(values))) == []


@pytest.mark.parametrize(("version", "held"), [("1.5", False), ("1.4.0", True)])
def test_files_of_the_first_versions_did_not_count_all_decisions(version: str, held: bool) -> None:
    path = GOLDEN / f"certificate-{version}.json"
    older = read_result(path, CertificateModel, hint="look")
    clean = older.clean.model_copy(update={"quantised_correct": None})
    assert counts_check(older.model_copy(update={"clean": clean})).held is held


def of_a_direction(**changes: Any) -> list[str]:
    """What is wrong with a direction of errors: a loss of 0.2 on one half, of 0.1 on the other."""
    values = of_errors()
    for row in values["diagnostics"]["transfer"]["directions"]:
        row |= {"searched_clean": 0.1, "searched": 0.3, "held_out_clean": 0.1, "held_out": 0.2}
        row |= {"low": None, "high": None, "method": None, "share": 0.5, **changes}
    found = list(wrong_transfer(made(values)))
    return [name.rpartition(".")[2] for name in found if ".directions.0." in name]


def test_the_share_of_an_error_that_carries_over_is_any_loss_over_any_other() -> None:
    assert of_a_direction() == []
    assert of_a_direction(share=0.4) == ["share"]
    assert of_a_direction(searched=0.1, share=None) == []
    assert of_a_direction(searched=0.1) == ["share"]
    assert of_a_direction(low=0.1) == ["low"]
