"""Samples that are certified, against chips that are said to break them."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.certify.per_sample import PerSample
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.unbroken_proof import unbroken_check
from tests.unit.review.test_consistency import plain

MADE = CertificateModel.model_validate(plain())
FLIPPED = plain()["worst_found"]["flipped"]["rows"][0]["sample"]
FRAGILE = plain()["diagnostics"]["fragile_inputs"]["rows"][0]


def checked(sample: int, *, certified: bool, largest: float, samples: int = 190) -> ReplayCheck:
    """Check with one sample that is proven so, and nothing proven of the others."""
    table = PerSample(np.zeros(samples, bool), np.ones(samples, bool), np.zeros(samples))
    table.certified[sample], table.largest[sample] = certified, largest
    return unbroken_check(MADE, table)


def test_nothing_proven_is_broken_by_nothing() -> None:
    assert checked(0, certified=False, largest=0.0).held


def test_an_input_that_flips_is_not_certified() -> None:
    check = checked(FLIPPED, certified=True, largest=0.1)
    assert check.held is False
    assert check.detail.startswith("certified, and broken by worst_found.flipped.rows.0")


def test_an_input_that_breaks_within_the_tolerance_is_not_certified() -> None:
    said = checked(FRAGILE["sample"], certified=True, largest=0.0).detail
    assert said.endswith("diagnostics.fragile_inputs.rows.0")


@pytest.mark.parametrize(
    ("factor", "held"), [(0.5, True), (1.0, True), (1.00002, False), (np.nan, True)]
)
def test_no_tolerance_is_proven_that_a_chip_breaks_it_at(factor: float, held: bool) -> None:
    largest = FRAGILE["breaks_at"] * factor
    assert checked(FRAGILE["sample"], certified=False, largest=largest).held is held


def test_decisions_of_several_a_sample_are_numbered_otherwise() -> None:
    assert checked(FLIPPED, certified=True, largest=0.1, samples=380).held


def test_a_chip_for_a_sample_that_there_is_not_breaks_nothing() -> None:
    values = plain()
    values["diagnostics"]["fragile_inputs"]["rows"][0]["sample"] = 190
    values["worst_found"]["flipped"]["rows"][0]["sample"] = 190
    table = PerSample(np.ones(190, bool), np.ones(190, bool), np.zeros(190))
    check = unbroken_check(CertificateModel.model_validate(values), table)
    assert "rows.0" not in check.detail
    assert "rows.1" in check.detail


def test_where_nothing_flips_and_nothing_was_diagnosed_nothing_is_broken() -> None:
    values = plain()
    values["worst_found"] |= {"flipped": None, "flipped_reason": "none"}
    values |= {"diagnostics": None, "diagnostics_reason": "left out"}
    table = PerSample(np.ones(190, bool), np.ones(190, bool), np.zeros(190))
    assert unbroken_check(CertificateModel.model_validate(values), table).held
