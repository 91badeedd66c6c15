"""Diagnostics of a run that was interrupted: taken over as they were, and checked before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cimrobust.attack.diagnosis_protocol import Diagnosis
from cimrobust.diagnose.run_diagnostics import diagnose
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import FinishedParts, digest_of
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult

RUN = Run(effort="quick", workers=1)
NAMES = ["classes", "safety_class"]
Told = tuple[Diagnosis, FinishedParts]


@pytest.fixture
def found(one_fragile_class: Any) -> SearchResult:
    return search(Subject(*one_fragile_class), RUN)


@pytest.fixture
def told(one_fragile_class: Any, found: SearchResult, tmp_path: Path) -> Callable[..., Told]:
    """Run diagnostics with what is kept in a folder."""

    def maker(**asked: Any) -> Told:
        parts = FinishedParts(tmp_path, "a")
        asked = {"found": found, "safety_class": 3, **asked}
        subject = Subject(*one_fragile_class)
        return diagnose(subject, RUN, asked.pop("found"), NAMES, parts=parts, **asked), parts

    return maker


def digest(diagnosis: Diagnosis) -> str:
    """What two runs must have in common, seconds included where nothing ran again."""
    return digest_of(
        [[row.name, row.result, row.reason, row.passes] for row in diagnosis.outcomes]
        + [diagnosis.found.deviations, diagnosis.found.score, diagnosis.broken]
    )


def test_finished_diagnostics_are_taken_over_as_they_were(told: Callable[..., Told]) -> None:
    first, made = told()
    again, taken = told()
    assert digest(again) == digest(first)
    assert [row.seconds for row in again.outcomes] == [row.seconds for row in first.outcomes]
    assert made.taken == []
    assert {name.rpartition(".")[2] for name in taken.taken} >= {"classes", "safety_class"}
    assert taken.notes == []


def test_another_question_is_not_answered_by_what_is_kept(told: Callable[..., Told]) -> None:
    told()
    other, parts = told(safety_class=1)
    assert {name.rpartition(".")[2] for name in parts.taken} == set()
    result = next(row.result for row in other.outcomes if row.name == "safety_class")
    assert result.label == 1


def test_a_kept_chip_outside_the_box_is_searched_again(
    told: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = FinishedParts.keep

    def forged(self: FinishedParts, name: str, part: Any) -> None:
        if name == "safety_class":
            result, step = part
            outside = {key: 3.0 * array for key, array in result.deviations.items()}
            assert any(np.abs(array).max() > 0 for array in outside.values())
            part = (replace(result, deviations=outside), step)
        keep(self, name, part)

    with monkeypatch.context() as patched:
        patched.setattr(FinishedParts, "keep", forged)
        first, _ = told()
    again, parts = told()
    assert digest(again) == digest(first)
    assert any("tolerance interval" in note and "safety_class" in note for note in parts.notes)
    assert not any(name.endswith("safety_class") for name in parts.taken)
