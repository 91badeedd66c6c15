from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.engine.open import Runtime
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress
from cimrobust.search.climb import climb
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import CrossEntropy, SmoothAccuracy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import budget_of
from cimrobust.search.torch_patterns import tensors_of

Small = tuple[Runtime, Placement]


@pytest.fixture
def problem(small: Small) -> Problem:
    runtime, placement = small
    opened = open_gradients(
        runtime, placement, budget_of("quick"), seed=0, workers=1, device=torch.device("cpu")
    )
    return Problem(
        runtime,
        box_of(placement),
        opened.crafting,
        opened.oracle,
        0,
        1,
        NullProgress(),
        most_passes=200,
    )


def _evaluated(problem: Problem, seed: int) -> tuple[dict[str, np.ndarray], float]:
    corner = problem.box.random_corner(problem.random("test", seed))
    return corner, problem.measure([corner])[0][0]


def test_a_pattern_that_may_win_has_the_key_of_a_full_run(problem: Problem) -> None:
    corner, right = _evaluated(problem, 0)
    beside = problem.step(tensors_of(problem.box.zero()), SmoothAccuracy(), 1.0)
    key = problem.screen(corner, beside, (right, 0.0))
    assert key is not None
    assert key == pytest.approx(
        problem.measure([corner])[0], rel=1e-5
    )  # float32 sums in another order


def test_a_pattern_that_cannot_win_is_given_up_early(problem: Problem) -> None:
    corner, right = _evaluated(problem, 1)
    beside = problem.step(tensors_of(problem.box.zero()), SmoothAccuracy(), 1.0)
    before = problem.forward_samples
    assert problem.screen(corner, beside, (right - 1, 1.0)) is None
    before, full = problem.forward_samples, problem.forward_samples - before
    assert problem.screen(corner, beside, (20.0, 1.0)) is None
    assert problem.forward_samples - before < full == len(problem.crafting)


def test_the_order_of_samples_changes_no_margin(problem: Problem) -> None:
    assert problem.oracle is not None
    pattern = tensors_of(problem.box.random_corner(problem.random("test")))
    straight, shuffled = (
        problem.oracle.promising(pattern, order=order, most_right=np.inf)[0]
        for order in _orders(200)
    )
    assert straight is not None
    assert shuffled is not None
    assert straight[0] == shuffled[0]
    torch.testing.assert_close(straight[1], shuffled[1], rtol=1e-5, atol=1e-6)


def _orders(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.random.default_rng(0).permutation(count)


def test_a_collapsed_run_stops_on_the_plateau(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Problem, "has_collapsed", lambda self, candidate=None: True)
    monkeypatch.setattr(Problem, "key_of", lambda self, evaluation, pattern: (50.0, 0.5))
    monkeypatch.setattr(Problem, "screen", lambda self, pattern, beside, best: None)
    climb(
        problem, "test", CrossEntropy(), start=problem.box.zero(), passes=60, origin="", patience=6
    )
    assert problem.passes == 7


def test_a_search_with_nothing_left_right_ends(problem: Problem) -> None:
    problem.offer(Candidate(problem.box.zero(), (0.0, 0.0), "", "other"))
    climb(problem, "test", CrossEntropy(), start=problem.box.zero(), passes=60, origin="")
    assert problem.passes == 1
