"""Numbers of a certificate that contradict each other, each named by the check that finds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.review.consistency import consistency_checks, trials_check

CERTIFICATE = Path(__file__).parents[3] / "reports" / "breast_cancer_mlp" / "certificate.json"
Plain = dict[str, Any]


def plain() -> Plain:
    """The example certificate as plain values."""
    values: Plain = json.loads(CERTIFICATE.read_text())
    return values


def contradicted(values: Plain) -> dict[str, str]:
    """Return what the checks that do not hold say, by name."""
    checks = consistency_checks(CertificateModel.model_validate(values))
    return {check.id: check.detail for check in checks if check.held is False}


def put(place: str, change: Callable[[Any], Any]) -> Callable[[Plain], None]:
    """Return what changes one value of a certificate."""

    def forge(values: Plain) -> None:
        *folders, name = place.split(".")
        block: Any = values
        for part in folders:
            block = block[int(part)] if isinstance(block, list) else block[part]
        block[name] = change(block[name])

    return forge


def one_more(value: float) -> float:
    return value + 1


#: What is changed, the check that finds it, and the place that it names.
CHANGES = [
    ("data.decision.metric", lambda _: "mae", "metric_numbers", "data.decision.metric"),
    ("clean.correct", lambda _: None, "metric_numbers", "clean.correct"),
    ("clean.score", lambda score: score - 0.1, "shares", "clean.score"),
    ("clean.quantised_score", lambda score: score - 0.1, "shares", "clean.quantised_score"),
    (
        "worst_found.replay.score",
        lambda score: score + 0.1,
        "shares",
        "worst_found.replay.score",
    ),
    ("worst_found.members.0.score", lambda s: s / 2, "shares", "worst_found.members.0.score"),
    ("certified.curve.0.score", lambda score: score / 2, "shares", "certified.curve.0.score"),
    ("worst_found.score", lambda score: score + 0.1, "worst_found_numbers", "worst_found.score"),
    ("worst_found.samples", one_more, "worst_found_numbers", "worst_found.samples"),
    ("clean.per_class.0.worst", one_more, "worst_found_numbers", "clean.per_class"),
    ("clean.per_class.0.clean", one_more, "worst_found_numbers", "clean.per_class"),
    ("worst_found.box_obeyed", lambda _: False, "worst_found_numbers", "worst_found.box_obeyed"),
    ("device.tolerance_fraction", lambda t: t / 2, "device_numbers", "device.tolerance_fraction"),
    (
        "mapping.layers.0.tile_rows",
        lambda rows: 2 * rows,
        "device_numbers",
        "mapping.layers.0.tile_rows",
    ),
    (
        "mapping.layers.0.tolerance_fraction",
        lambda tolerance: tolerance / 2,
        "device_numbers",
        "mapping.layers.0.tolerance_fraction",
    ),
    (
        "certified.curve.1.tolerance_fraction",
        lambda tolerance: 2 * tolerance,
        "device_numbers",
        "certified.curve.1.tolerance_fraction",
    ),
    ("device.chip_inside_probability", lambda _: 0.5, "device_numbers", "chip_inside_probability"),
    ("mapping.layers.0.scale_min", lambda s: s + 1e3, "mapping_numbers", "layers.0.scale_min"),
    ("mapping.layers.0.devices", one_more, "mapping_numbers", "mapping.layers.0.devices"),
    ("mapping.total_devices", one_more, "mapping_numbers", "mapping.total_devices"),
    ("mapping.total_tiles", one_more, "mapping_numbers", "mapping.total_tiles"),
    ("model.mapped_weights", one_more, "mapping_numbers", "model.mapped_weights"),
    ("timings.total_seconds", one_more, "timings", "timings.total_seconds"),
    ("certified.correct", lambda _: 191, "order", "certified.correct"),
    ("certified.score", lambda _: 1.0, "order", "certified.score and worst_found.score"),
    ("monte_carlo.min", lambda _: 0.01, "order", "certified.score and monte_carlo.min"),
]


def test_the_genuine_certificate_contradicts_itself_nowhere() -> None:
    assert contradicted(plain()) == {}


@pytest.mark.parametrize(
    ("place", "change", "check", "named"),
    CHANGES,
    ids=[f"{place} {check}" for place, _, check, _ in CHANGES],
)
def test_one_changed_number_is_found_and_named(
    place: str, change: Callable[[Any], Any], check: str, named: str
) -> None:
    values = plain()
    put(place, change)(values)
    assert named in contradicted(values)[check]


def genuine_table(**changes: Any) -> TrialTable:
    """Drawn chips that are tables of the example by form, not by number."""
    metric, clean = plain()["metric"], plain()["clean"]
    count = np.full(8, clean["correct"], dtype=np.int64)
    fields: Plain = {
        "trial": np.arange(8),
        "value": count / clean["samples"],
        "count": count,
        "num_samples": clean["samples"],
        "seed": 0,
        "metric": metric["name"],
        "higher_is_better": metric["higher_is_better"],
    }
    return TrialTable(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "8 trials give other values of"),
        ({"metric": "mae"}, "the table counts mae, the certificate accuracy"),
        ({"higher_is_better": False}, "the table counts accuracy"),
        ({"trial": np.arange(1, 9)}, "trials are not counted from 0"),
        ({"trial": np.zeros(8, dtype=np.int64)}, "trials are not counted from 0"),
        ({"count": None}, "correct decisions are in one of table and certificate only"),
        ({"value": np.ones(8)}, "scores are not correct decisions over samples"),
        (
            {"count": np.full(8, -1), "value": np.full(8, -1 / 190)},
            "scores are not correct decisions over samples",
        ),
        (
            {"count": np.full(8, 380), "value": np.full(8, 2.0)},
            "scores are not correct decisions over samples",
        ),
    ],
)
def test_a_table_that_is_none_of_the_certificate_is_refuted(changes: Plain, said: str) -> None:
    check = trials_check(CertificateModel.model_validate(plain()), genuine_table(**changes))
    assert check.held is False
    assert said in check.detail
