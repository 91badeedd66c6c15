"""Sentences of scores: units, directions, and what counts as a proof."""

from __future__ import annotations

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.vacuous import ABSURD
from cimrobust.certificate.wording import (
    counted,
    is_proof,
    is_reached,
    left_out,
    on_samples,
    rule,
    shown,
    unit,
)
from tests.unit.certificate.partial import partial


def certificate(
    metric: str = "accuracy", *, certified: float | None = None, clean: float = 0.5, used: int = 50
) -> CertificateModel:
    return partial(
        CertificateModel,
        {
            "metric": {"name": metric, "higher_is_better": metric == "accuracy"},
            "certified": {"score": certified},
            "clean": {"quantised_score": clean, "samples": 50},
            "data": {"used": used},
        },
    )


@pytest.mark.parametrize(
    ("metric", "certified", "clean", "proof"),
    [
        ("accuracy", None, 0.9, False),
        ("accuracy", 0.0, 0.9, False),
        ("accuracy", 0.02, 0.9, True),
        ("rmse", None, 1.0, False),
        ("rmse", ABSURD * 1.0, 1.0, True),
        ("rmse", ABSURD * 1.0 + 0.1, 1.0, False),
        ("rmse", 0.0, 0.0, True),
        ("rmse", 1e-9, 0.0, False),
    ],
)
def test_a_bound_that_any_network_keeps_is_no_proof(
    metric: str, certified: float | None, clean: float, proof: bool
) -> None:
    assert is_proof(certificate(metric, certified=certified, clean=clean)) is proof


def test_scores_have_units() -> None:
    assert shown(certificate(), 0.12345) == "12.35 %"
    assert shown(certificate("mse"), 1234.56) == "1235 (squared unit of the target)"
    assert [unit(certificate(name)) for name in ("accuracy", "mse", "mae")] == [
        "fraction",
        "squared unit of the target",
        "unit of the target",
    ]
    assert counted(certificate(), 0.5, 25, 50) == "50.00 % (25 of 50)"
    assert counted(certificate("mae"), 0.5, None, 50) == "0.5 (unit of the target)"


def test_reaching_a_threshold_exactly_is_enough_in_both_directions() -> None:
    accuracy, error = certificate(), certificate("rmse")
    assert [is_reached(accuracy, value, 0.5) for value in (0.49, 0.5, 0.51)] == [False, True, True]
    assert [is_reached(error, value, 0.5) for value in (0.49, 0.5, 0.51)] == [True, True, False]
    assert (rule(accuracy, 0.5), rule(error, 0.5)) == (
        "at least 50.00 %",
        "at most 0.5 (unit of the target)",
    )


def test_decisions_are_told_from_samples() -> None:
    assert on_samples(certificate(used=50)) == "on these 50 samples"
    assert on_samples(certificate(used=10)) == "on these 50 decisions of 10 samples"
    assert left_out("certify") == "left out on request (--skip certify)"
