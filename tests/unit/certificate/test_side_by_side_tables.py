"""Diagnostics of several certificates side by side: nothing made up, and a reason for all that is
missing.
"""

from __future__ import annotations

import sys

import pytest

from cimrobust.certificate import side_by_side_tables as side_by_side
from cimrobust.certificate.models import CertificateModel
from tests.unit.certificate.partial import partial

STATED = 0.04


def certificate(**changes) -> dict:
    made = {
        "device": {"tolerance_fraction": STATED},
        "worst_found": {"score": 0.5},
        "certified": {
            "reason": None,
            "curve_samples": 16,
            "curve": [{"box_size": 0.5, "score": 0.75}, {"box_size": 1.0, "score": 0.25}],
        },
        "diagnostics_reason": None,
        "diagnostics": {
            "tolerance_curve": {
                "points": [
                    {"tolerance": 0.02, "score": 0.9},
                    {"tolerance": STATED, "score": 0.6},
                    {"tolerance": 0.06, "score": 0.4},
                ],
                "tried": [{"tolerance": 0.05, "score": 0.48}],
                "required": 0.48,
                "required_by": "no policy",
                "unrefuted": 0.05,
                "refuted": 0.06,
            },
            "tolerance_curve_reason": None,
            "layers": {"rows": [layer("b", 0.6, 0.9), layer("a", 0.8, 0.55)]},
            "layers_reason": None,
        },
    }
    return {**made, **changes}


def compare_tolerances(certificates: dict, *, stated: float):
    return side_by_side.compare_tolerances(records(certificates), stated=stated)


def compare_layers(certificates: dict, *, trained):
    return side_by_side.compare_layers(records(certificates), trained=trained)


def records(certificates: dict) -> dict:
    return {role: partial(CertificateModel, plain) for role, plain in certificates.items()}


def layer(name: str, alone: float, others: float | None) -> dict:
    return {
        "initializer": name,
        "alone": {"score": alone},
        "others": None if others is None else {"score": others},
    }


def without(name: str, reason: str) -> dict:
    made = certificate()
    made["diagnostics"] |= {name: None, f"{name}_reason": reason}
    return made


def test_rows_are_what_the_certificates_say():
    other = certificate()
    other["diagnostics"]["tolerance_curve"]["tried"] = [{"tolerance": 0.03, "score": 0.7}]
    compared, reason = compare_tolerances({"before": certificate(), "after": other}, stated=STATED)
    assert reason is None
    assert [(row.tolerance, row.is_bisection) for row in compared.rows] == [
        (0.02, False),
        (0.03, True),
        (STATED, False),
        (0.05, True),
        (0.06, False),
    ]
    assert [row.before.worst_found for row in compared.rows] == [0.9, None, 0.5, 0.48, 0.4]
    assert [row.after.worst_found for row in compared.rows] == [0.9, 0.7, 0.5, None, 0.4]
    assert [row.before.certified for row in compared.rows] == [0.75, None, 0.25, None, None]
    assert all(row.control is None for row in compared.rows)
    assert compared.control is None


def test_stated_tolerance_has_the_worst_chip_of_the_whole_certificate():
    compared, _ = compare_tolerances(
        {"before": certificate(worst_found={"score": 0.1}), "after": certificate()}, stated=STATED
    )
    (row,) = [row for row in compared.rows if row.is_stated]
    assert (row.tolerance, row.before.worst_found, row.after.worst_found) == (STATED, 0.1, 0.5)


def test_network_without_a_curve_keeps_its_stated_point_and_says_why():
    compared, _ = compare_tolerances(
        {"before": certificate(), "after": without("tolerance_curve", "gave up: no memory")},
        stated=STATED,
    )
    assert compared.after.reason == "gave up: no memory"
    assert compared.after.required is None
    assert [row.after.worst_found for row in compared.rows] == [None, 0.5, None, None]


def test_certified_boxes_that_drift_widens_are_no_curve_over_write_verify():
    drifted = certificate(device={"tolerance_fraction": 2 * STATED})
    compared, _ = compare_tolerances({"before": drifted, "after": certificate()}, stated=STATED)
    assert "drift" in compared.before.certified_reason
    assert all(row.before.certified is None for row in compared.rows)
    assert compared.after.certified_reason is None


@pytest.mark.parametrize(
    "compare",
    [
        lambda certificates: compare_tolerances(certificates, stated=STATED),
        lambda certificates: compare_layers(certificates, trained=()),
    ],
)
def test_nothing_measured_is_null_with_the_reason_of_the_certificates(compare):
    name = {
        "layers": None,
        "layers_reason": "not asked for",
        "tolerance_curve": None,
        "tolerance_curve_reason": "not asked for",
    }
    nothing = certificate(diagnostics=name)
    assert compare({"before": nothing, "after": nothing}) == (None, "not asked for")
    broken = certificate(diagnostics=None, diagnostics_reason="no effects")
    assert compare({"before": nothing, "after": broken}) == (
        None,
        "before: not asked for; after: no effects",
    )


def test_layers_stand_in_the_order_of_before_whatever_the_others_say():
    after = certificate()
    after["diagnostics"]["layers"] = {"rows": [layer("a", 0.7, None), layer("new", 0.9, 0.9)]}
    compared, reason = compare_layers({"before": certificate(), "after": after}, trained=["a"])
    assert reason is None
    assert [(row.initializer, row.trained) for row in compared.rows] == [
        ("b", False),
        ("a", True),
        ("new", False),
    ]
    assert [None if row.before is None else row.before.alone for row in compared.rows] == [
        0.6,
        0.8,
        None,
    ]
    assert [
        None if row.after is None else (row.after.alone, row.after.others) for row in compared.rows
    ] == [None, (0.7, None), (0.9, 0.9)]


def test_layers_of_one_network_alone_tell_why_the_other_has_none():
    compared, _ = compare_layers(
        {"before": without("layers", "gave up"), "after": certificate()}, trained=["a", "b"]
    )
    assert compared.reasons == {"before": "gave up"}
    assert [(row.before, row.after.alone) for row in compared.rows] == [(None, 0.6), (None, 0.8)]


def test_infinite_bound_of_an_error_is_none():
    unbounded = certificate()
    unbounded["certified"]["curve"][1]["score"] = sys.float_info.max
    compared, _ = compare_tolerances({"before": unbounded, "after": certificate()}, stated=STATED)
    assert [row.before.certified for row in compared.rows] == [0.75, None, None, None]
