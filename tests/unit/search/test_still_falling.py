"""The warning that a search ended with its passes while it still found worse patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search import search_budget as budget
from cimrobust.search import search_warnings
from cimrobust.search.ensemble import search
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.search_records import EffortPoint
from cimrobust.search.search_warnings import falling_warnings

QUICK = budget.budget_of("quick")


def _ledger(
    runtime: Runtime, course: Sequence[tuple[int, float]], *, passes: int = 99
) -> PassLedger:
    task = replace(runtime.task, labels=np.zeros(200, np.int64))
    ledger = PassLedger(task, QUICK.num_passes, passes=passes, best=1.0)
    ledger.trace = [EffortPoint(passes=at, seconds=0.0, score=score) for at, score in course]
    return ledger


def test_a_search_that_ends_in_full_fall_says_so(small: tuple[Runtime, Placement]) -> None:
    ledger = _ledger(small[0], [(1, 0.9), (40, 0.6), (95, 0.55), (98, 0.5)])
    (warning,) = falling_warnings(ledger, QUICK)
    assert warning.code == "STILL_FALLING"
    assert "used all of its 99 passes (effort quick)" in warning.text
    assert "in the last 24 it came from 0.6 to 0.5 of the decisions correct" in warning.text


@pytest.mark.parametrize(
    ("course", "passes"),
    [
        pytest.param([(1, 0.9), (40, 0.6), (60, 0.5)], 99, id="settled"),
        pytest.param([(1, 0.9), (40, 0.6), (98, 0.59)], 99, id="two decisions"),
        pytest.param([(1, 0.9), (40, 0.6), (59, 0.5)], 60, id="stopped on its own"),
        pytest.param([(98, 0.5)], 99, id="nothing before"),
        pytest.param([], 99, id="nothing found"),
    ],
)
def test_other_searches_say_nothing(
    small: tuple[Runtime, Placement], course: list[tuple[int, float]], passes: int
) -> None:
    assert falling_warnings(_ledger(small[0], course, passes=passes), QUICK) == []


def test_a_search_that_broke_everything_says_nothing(small: tuple[Runtime, Placement]) -> None:
    ledger = _ledger(small[0], [(1, 0.9), (40, 0.6), (98, 0.0)])
    ledger.best = 0.0
    assert falling_warnings(ledger, QUICK) == []


def test_a_search_cut_short_warns_in_its_result(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Cross-entropy alone, and no passes for anything after it: its last passes are nearly all.
    monkeypatch.setattr(search_warnings, "_END", 0.8)
    short = replace(
        QUICK, smooth=(), hinge=(), ratio=(), papers=0, targets=0, collapse=(), control=0
    )
    monkeypatch.setitem(
        budget._LEVELS, "quick", replace(short, entropy=(4,), continuation=(0,), random_corners=0)
    )
    result = search(Subject(*small), Run(seed=1, effort="quick"))
    assert result.passes == 5
    assert [warning.code for warning in result.warnings] == ["STILL_FALLING"]
