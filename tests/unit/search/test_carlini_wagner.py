from __future__ import annotations

import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search_by_papers
from cimrobust.search.members.carlini_wagner import _Weights, grid_of
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples

Small = tuple[Runtime, Placement]


@pytest.mark.parametrize("passes", [0, 1, 6, 24, 40, 200, 991, 6000])
def test_a_grid_spends_no_more_than_it_is_given(passes: int) -> None:
    grid = grid_of(passes)
    spent = len(grid.speeds) * grid.rounds * grid.steps
    assert passes - len(grid.speeds) * grid.rounds < spent <= passes


def test_few_passes_are_one_run_fast_where_it_has_the_steps() -> None:
    assert [(grid_of(passes).speeds, grid_of(passes).rounds) for passes in (6, 20, 40, 899)] == [
        ((3.0,), 1),
        *[((20.0,), 1)] * 3,
    ]


def test_many_passes_buy_ten_values_of_c_for_each_of_three_learning_rates() -> None:
    grid = grid_of(6000)
    assert (len(grid.speeds), grid.rounds, grid.steps) == (3, 10, 200)


def test_c_is_bisected_to_the_smallest_that_reaches_the_bound() -> None:
    weights, limit, tried = _Weights(100.0), 0.03, []
    for weight in weights.values(20):
        tried.append(weight)
        weights.report(reached=weight >= limit)
    assert tried[1] == 10.0
    assert tried[-1] == pytest.approx(limit, rel=1e-3)


def test_c_grows_where_the_bound_is_not_reached() -> None:
    weights = _Weights(100.0)
    tried = []
    for weight in weights.values(3):
        tried.append(weight)
        weights.report(reached=False)
    assert tried == [100.0, 1000.0, 10000.0]


def test_the_papers_method_stays_in_the_box_and_breaks_decisions(small: Small) -> None:
    runtime, placement = small
    result = search_by_papers(Subject(runtime, placement), Run(), passes=80)
    box_of(placement).check(result.deviations, origin="test")
    assert [member.name for member in result.members] == ["carlini_wagner"]
    assert result.member == "carlini_wagner"
    assert result.score.value < 0.75 * runtime.quantised.value
    assert result.passes <= 81


def test_more_passes_do_not_cost_crafting_samples(small: Small) -> None:
    few, many = (search_by_papers(Subject(*small), Run(), passes=passes) for passes in (2, 30))
    assert few.crafting_samples == many.crafting_samples == 200


def test_zero_tolerance_leaves_nothing_to_find(opened: Opener) -> None:
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(60, 6)}, tolerance=0.0)
    assert (
        search_by_papers(Subject(runtime, placement), Run(), passes=10).score == runtime.quantised
    )
