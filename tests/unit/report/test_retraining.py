"""The report of a re-training: a pure function of retrain.json, whatever was measured."""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from pathlib import Path

import jsonschema
import pytest

from cimrobust.certificate.models.retrained import Retraining
from cimrobust.report import render as rendering
from cimrobust.report import side_by_side_charts as side_by_side
from tests.unit.report.test_render import Elements, at

_spec = importlib.util.spec_from_file_location(
    "retraining_example", Path(__file__).with_name("retraining_example.py")
)
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)
HOSTILE = example.HOSTILE
REGRESSION = {
    "name": "rmse",
    "higher_is_better": False,
    "unit": "target unit",
    "description": "error",
}
ALONE = {"control": None, "control_outcome": None}
TWO = ("before", "after")


def render_retraining(described: dict) -> str:
    return rendering.render_retraining(Retraining.model_validate(described))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"metric": REGRESSION},
        {"pace": None},
        {"steps": [], "steps_reason": HOSTILE, "weights": []},
        {"weights": example.weights(control=None, clip=None)},
        {"training": example.training("a-trice")},
        {"training": example.training("trice-search")},
        {"pace": example.pace(rate=0.0005)},
        {"training": {**example.training("cimrobust"), "weight_range": None}},
        {"training": {**example.training("cimrobust"), "bound_share": 0.2, "bound_ratio": 4.5}},
        {**ALONE, "tolerances": example.tolerances(TWO), "layers": example.layers(2, TWO)},
        {"layers": example.layers(45)},
        {"layers": {"rows": example.layers(2, TWO)["rows"], "reasons": {"control": HOSTILE}}},
        {
            "tolerances": example.tolerances(
                after=example.summary(
                    reason=HOSTILE, required=None, required_by=None, unrefuted=None
                )
            )
        },
        {
            "tolerances": example.tolerances(
                **{
                    role: example.summary(certified_samples=16)
                    for role in ("before", "control", "after")
                }
            )
        },
        {
            "tolerances": None,
            "tolerances_reason": HOSTILE,
            "layers": None,
            "layers_reason": HOSTILE,
        },
    ],
)
def test_page_of_any_re_training(changes):
    described = example.description(**changes)
    jsonschema.validate(described, Retraining.published_schema())
    page = render_retraining(described)
    assert 'content: "cimrobust re-training"' in page
    found = Elements(page)
    assert "script" not in found.tags
    assert len(found.ids) == len(set(found.ids))
    for path, value in found.numbers:
        expected = at(described, path)
        assert value == ("" if expected is None else repr(expected)), path


def test_same_re_training_same_bytes():
    described = example.description()
    assert render_retraining(described) == render_retraining(copy.deepcopy(described))


def test_numbers_of_every_network_are_in_the_tables():
    paths = {path for path, _ in Elements(render_retraining(example.description())).numbers}
    for role in ("before", "control", "after"):
        assert {f"tolerances.rows.{row}.{role}.worst_found" for row in (0, 1, 3)} <= paths
        assert {f"tolerances.rows.{row}.{role}.certified" for row in (0, 1)} <= paths
        assert {
            f"layers.rows.{row}.{role}.{key}" for row in range(3) for key in ("alone", "others")
        } <= paths
    assert "tolerances.rows.2.before.worst_found" in paths


@cache
def charts_of_the_example() -> tuple[str, dict[str, str]]:
    made = Retraining.model_validate(example.description())
    return rendering.training_curves(made), side_by_side.pictures(made)


@pytest.fixture
def drawn_once(monkeypatch):
    """The charts of the example on every page: for tests that read the words alone."""
    curves, pictures = charts_of_the_example()
    monkeypatch.setattr(rendering, "training_curves", lambda _: curves)
    monkeypatch.setattr(side_by_side, "pictures", lambda _: pictures)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            (
                "the first steps of plain training keep within the clean loss and one standard"
                " error: validation accuracy before"
            ),
        ),
        ({}, "Plain fine-tuning on clipped weights gives 50.00\xa0%."),
        (
            {"steps": example.steps(clipped=0.791)},
            "gives 79.10\xa0%, which is within one point of the method or above it: what helps here"
            " is the clipping, not the method.",
        ),
        (
            {
                "steps": example.steps(clipped=0.205),
                "after": example.outcome("after", worst=0.201),
                "before": example.outcome("before", worst=0.2),
            },
            "gives 20.50\xa0%, which is within one point of the method or above it: neither of them"
            " helps.",
        ),
        ({"steps": [], "steps_reason": HOSTILE}, "Not measured: &lt;script"),
        ({"training": example.training("trice-search")}, "chose"),
        ({}, "clipped at 3 standard deviations of their tensor, not 2"),
        (
            {"tuning": {"budget_epochs": 4, "used_epochs": 4, "library": "optuna 4", "trials": []}},
            "The learning rate that the search for settings began with is the largest",
        ),
        ({"pace": example.pace(rate=0.0005)}, "None of them did; 0.0005 is the smallest."),
        (
            {"training": {**example.training("cimrobust"), "weight_range": None}},
            "Weights were not clipped: that alone would have cost more than",
        ),
        (
            {"training": {**example.training("cimrobust"), "weight_range": 2.0}},
            "clipped at 2 standard deviations of their tensor.</li>",
        ),
        (
            {},
            (
                " times the loss that an attack reached. It counts as tight up to 10 times, so the"
                " bound has no part in the loss."
            ),
        ),
        (
            {"training": {**example.training("cimrobust"), "bound_share": 0.2, "bound_ratio": 4.5}},
            "That is tight, so the bound has a share of",
        ),
        (
            {
                "training": {
                    **example.training("cimrobust"),
                    "bound_ratio": None,
                    "bound_reason": "no rule",
                }
            },
            "The interval bound has no part in the loss: no rule.",
        ),
    ],
)
@pytest.mark.usefixtures("drawn_once")
def test_page_says_what_was_chosen_before_training(changes, said):
    assert said in render_retraining(example.description(**changes))


@pytest.mark.usefixtures("drawn_once")
def test_page_says_nothing_of_a_bound_that_nobody_asked_about():
    page = render_retraining(
        example.description(training={**example.training("cimrobust"), "bound_ratio": None})
    )
    assert "interval bound of the loss" not in page


def test_what_was_not_measured_has_a_reason_and_no_picture():
    described = example.description(
        tolerances=None, tolerances_reason="no curve", layers=None, layers_reason="no attacks"
    )
    page = render_retraining(described)
    assert "Not measured: no curve." in page
    assert "Not measured: no attacks." in page
    assert page.count("<figure>") == 1


def test_bounds_on_fewer_samples_are_not_drawn_among_worst_scores():
    few = example.tolerances(
        **{role: example.summary(certified_samples=16) for role in ("before", "control", "after")}
    )
    page = render_retraining(example.description(tolerances=few))
    assert "certified, first 16 decisions" in page
    assert "worst found, 50 samples" in page
    assert "Certified, first 16 decisions</th>" in page
    together = render_retraining(example.description())
    assert "certified, first" not in together
    assert "after, certified" in together


def test_smaller_is_said_to_be_better_of_errors_alone():
    assert (
        render_retraining(example.description(metric=REGRESSION)).count(
            "Worst rmse found (lower is better)"
        )
        == 2
    )
    assert "(lower is better)" not in render_retraining(example.description())


def test_picture_of_many_layers_has_the_most_fragile_and_the_table_all():
    described = example.description(layers=example.layers(45))
    page = render_retraining(described)
    picture = side_by_side.layers(Retraining.model_validate(described))
    assert ".39<" in picture
    assert ".40<" not in picture
    assert "layers.rows.44.after.alone" in page
    assert "the 40 layers most fragile alone" in page


def test_bounds_of_errors_may_be_orders_of_magnitude_larger():
    made = example.tolerances()
    for row, bound in zip(made["rows"], (0.9, 80.0, None, 1e12), strict=True):
        row["before"]["certified"] = bound
    picture = side_by_side.tolerances(
        Retraining.model_validate(example.description(metric=REGRESSION, tolerances=made))
    )
    assert "worst found, 50 samples" in picture
    assert "1e+12" in picture
    assert "mathdefault" not in picture
