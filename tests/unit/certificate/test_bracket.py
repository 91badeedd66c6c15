"""The scores that bracket the truth: their rows, their intervals, and their sentence."""

from __future__ import annotations

from typing import Any

from cimrobust.certificate.bracket import BracketRow, bracket_rows, bracket_sentence
from cimrobust.certificate.models import CertificateModel
from tests.unit.review.test_consistency import plain


def rows_of(**changes: Any) -> dict[str, BracketRow]:
    values = plain()
    for block, fields in changes.items():
        values[block] |= fields
    return {row.label: row for row in bracket_rows(CertificateModel.model_validate(values))}


def test_rows_go_from_the_proof_up_to_the_network_without_deviation() -> None:
    rows = rows_of()
    assert [(row.label, row.kind) for row in rows.values()] == [
        ("proven for every chip", "proof"),
        ("worst chip found", "worst"),
        ("1 % KPP bound", "drawn"),
        ("average chip", "drawn"),
        ("without deviation", "clean"),
    ]
    values = [row.value for row in rows.values()]
    assert values[:2] == [177 / 190, 179 / 190]


def test_each_row_has_the_interval_of_its_score() -> None:
    stated = {row["name"]: row for row in plain()["evaluation_set"]["intervals"]}
    rows = rows_of()
    for label, name in (
        ("proven for every chip", "certified"),
        ("worst chip found", "worst_found"),
        ("average chip", "mean"),
        ("without deviation", "quantised"),
    ):
        row = rows[label]
        assert (row.low, row.high) == (stated[name]["low"], stated[name]["high"])


def test_a_percentile_reaches_from_chips_and_samples_drawn_to_chips_alone() -> None:
    kpp = plain()["monte_carlo"]["kpp"][0]
    row = rows_of()["1 % KPP bound"]
    assert (row.value, row.low, row.high) == (
        kpp["lower_bound"],
        kpp["two_source"]["bound"],
        kpp["lower_bound"],
    )


def test_what_is_not_proven_has_no_interval() -> None:
    for score in (None, 0.0):
        row = rows_of(certified={"score": score, "correct": 0})["proven for every chip"]
        assert (row.value, row.low, row.high) == (None, None, None)
    values = plain()
    values["certified"] |= {"score": None, "correct": None}
    said = bracket_sentence(CertificateModel.model_validate(values))
    assert said.startswith("Scores on one axis: proven for every chip not proven, worst chip found")
