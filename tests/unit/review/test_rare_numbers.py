"""Numbers of a rare failure that contradict each other, each named by the check."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from scipy.special import log_ndtr, ndtr, ndtri

from cimrobust.certificate.blocks.rare_block import FORMULA, LABEL, rare_in_words
from cimrobust.certificate.models import CertificateModel
from cimrobust.review.rare_numbers import rare_check
from tests.unit.review.test_consistency import Plain, put
from tests.unit.review.test_consistency import plain as certificate

BETA, PROBABILITY = 3.5, 2e-4


def repeat(probability: float, levels: int) -> Plain:
    """A repeat of 100 chips, of which every level replaces 50 by 4 moves each, without ties."""
    return {
        "probability": probability,
        "reached": True,
        "levels": levels,
        "evaluations": 100 + levels * 50 * 4,
        "accepted": 0.4,
        "nearest": 3.9,
    }


def rare() -> Plain:
    """A rare failure whose numbers follow from each other."""
    first = float(ndtr(-BETA))
    return {
        "threshold": 0.8,
        "wrong_decisions": 39,
        "decisions": 190,
        "devices": 5952,
        "probability": PROBABILITY,
        "low": 1e-5,
        "high": 4e-3,
        "confidence": 0.95,
        "widened": 1.0,
        "reliability_index": float(-ndtri(PROBABILITY)),
        "reached": True,
        "reason": None,
        "particles": 100,
        "killed": 50,
        "moves": 4,
        "budget": 20000,
        "seed": 0,
        "repeats": [repeat(1e-4, 13), repeat(3e-4, 11)],
        "first_order": {
            "reliability_index": BETA,
            "probability": first,
            "log10_probability": float(log_ndtr(-BETA)) / math.log(10),
            "ratio": first / PROBABILITY,
            "agrees": True,
            "comparison": "They agree.",
            "meaning": "First order.",
        },
        "first_order_reason": None,
        "most_probable": {
            "reliability_index": BETA,
            "score": 0.79,
            "correct": 150,
            "file_score": None,
            "file_score_reason": "not stored",
            "method": "gradient",
            "method_reason": None,
            "start": "the worst chip found",
            "devices": 1000,
            "beyond_1": 3,
            "beyond_2": 1,
            "beyond_3": 0,
            "drawn_norm": 31.6,
            "layers": [],
            "starts": [],
            "effort": "quick",
            "seed": 0,
            "crafting_samples": 190,
            "passes": 40,
            "forwards": 10,
            "evaluations": 5,
            "stored": None,
            "stored_reason": "not asked",
            "statement": "One chip.",
            "label": "searched",
        },
        "most_probable_reason": None,
        "statement": "",
        "formula": FORMULA,
        "label": LABEL,
    }


def said(block: Plain | None, budget: int | None = None) -> list[tuple[bool | None, str]]:
    """Return what the check says of a certificate with a rare failure."""
    values = certificate()
    for setting in values["settings"]:
        if setting["key"] == "rare-budget":
            setting.update(value=budget, is_default=budget is None)
    values["monte_carlo"]["rare"] = block
    made = CertificateModel.model_validate(values)
    if (event := made.monte_carlo.rare) is not None:
        in_words = rare_in_words(event, higher_is_better=made.metric.higher_is_better)
        values["monte_carlo"]["rare"] = {**block, "statement": in_words} if block else None
    checks = rare_check(CertificateModel.model_validate(values))
    return [(check.held, check.detail) for check in checks]


#: What is changed, and the place that is named.
CHANGES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("reached", lambda _: False, "reached"),
    ("repeats.1.reached", lambda _: False, "reached"),
    ("repeats", lambda _: [], "reached"),
    ("probability", lambda _: None, "reached"),
    ("high", lambda _: 1e-6, "low"),
    ("repeats.0.evaluations", lambda _: 20001, "budget"),
    ("repeats.0.probability", lambda _: 1e-9, "probability"),
    ("probability", lambda _: 1e-12, "probability"),
    ("low", lambda _: 1e-3, "low"),
    ("high", lambda _: 1e-4, "low"),
    ("reliability_index", lambda _: 7.0, "reliability_index"),
    ("reliability_index", lambda _: None, "reliability_index"),
    ("most_probable.reliability_index", lambda _: 7.0, "first_order.reliability_index"),
    ("most_probable", lambda _: None, "first_order.reliability_index"),
    ("first_order.probability", lambda _: 1e-12, "first_order.probability"),
    ("first_order.log10_probability", lambda _: -12.0, "first_order.log10_probability"),
    ("first_order.ratio", lambda _: 1.0, "first_order.ratio"),
    ("decisions", lambda decisions: decisions - 1, "decisions"),
    ("wrong_decisions", lambda wrong: wrong - 1, "wrong_decisions"),
    ("devices", lambda devices: devices - 1, "devices"),
    ("seed", lambda seed: seed + 1, "seed"),
    ("confidence", lambda _: 0.5, "confidence"),
    ("widened", lambda _: 0.5, "widened"),
    ("reason", lambda _: "none", "widened"),
    ("repeats.1.levels", lambda levels: levels + 1, "repeats.1.evaluations"),
    ("repeats.0.probability", lambda _: 1.3e-4, "repeats.0.probability"),
    ("formula", lambda _: "The mean of repeats.", "statement"),
    ("label", lambda _: "proven", "statement"),
]


def test_numbers_that_follow_from_each_other_hold() -> None:
    assert said(rare()) == [
        (True, "the probability is the mean of its repeats and lies in its interval")
    ]


@pytest.mark.parametrize(("given", "holds"), [(20000, True), (None, True), (10000, False)])
def test_the_budget_is_that_of_the_settings_where_one_was_given(
    given: int | None, *, holds: bool
) -> None:
    assert [held for held, _ in said(rare(), budget=given)] == [holds]


def test_nothing_is_said_where_there_are_no_rare_failures() -> None:
    assert said(None) == []


def test_without_a_first_order_probability_the_others_are_checked() -> None:
    block = {**rare(), "first_order": None, "first_order_reason": "not asked", "low": 1e-3}
    assert [held for held, _ in said(block)] == [False]
    assert [held for held, _ in said({**block, "low": 1e-5})] == [True]


@pytest.mark.parametrize(
    ("place", "change", "named"),
    CHANGES,
    ids=[f"{place} {number}" for number, (place, *_) in enumerate(CHANGES)],
)
def test_one_changed_number_is_found_and_named(
    place: str, change: Callable[[Any], Any], named: str
) -> None:
    block = rare()
    put(place, change)(block)
    (check,) = said(block)
    assert check[0] is False
    assert f"monte_carlo.rare.{named}" in check[1]
