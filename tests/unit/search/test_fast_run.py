"""One fast run of the papers' method with the passes that are left, once decisions have collapsed."""  # noqa: E501

from __future__ import annotations

from cimrobust.engine.subject import Subject
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import MemberResult, SearchResult
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples


def searched(opened: Opener, tolerance: float, effort: str) -> tuple[SearchResult, MemberResult]:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(200, 6)}, tolerance=tolerance)
    result = search(Subject(runtime, placement), Run(effort=effort))
    (fast,) = (member for member in result.members if member.name == "fast_run")
    return result, fast


def test_collapsed_decisions_get_one_run_within_the_budget(opened: Opener) -> None:
    result, fast = searched(opened, 0.1, "standard")
    assert fast.passes == 80
    assert fast.score is not None
    # Every decision of this network is right without deviation; it is a search of its own, which
    # knows nothing of the others.
    assert result.score.value <= fast.score.value < 0.3
    assert result.passes <= 595


def test_decisions_that_have_not_collapsed_get_none(opened: Opener) -> None:
    _result, fast = searched(opened, 0.05, "standard")
    assert fast.score is None
    assert fast.passes == 0
    assert "no member has collapsed" in fast.note


def test_few_passes_left_are_not_spent(opened: Opener) -> None:
    result, fast = searched(opened, 0.1, "quick")
    assert fast.passes == 0
    assert "fewer than 20 passes are left" in fast.note
    assert result.passes <= 99
