from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.data.decision import Decision
from cimrobust.data.task import Task
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.candidate import Key
from cimrobust.search.climb import climb
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import CrossEntropy, SmoothAccuracy
from cimrobust.search.oracle import Evaluation
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.problem import Problem
from cimrobust.search.scorer import Scorer
from cimrobust.search.torch_patterns import tensors_of

Small = tuple[Runtime, Placement]


@pytest.fixture
def scorer(small: Small) -> Scorer:
    subject, run = Subject(*small), Run(effort="quick")
    problem = open_gradients(subject, run).problem(subject, run)
    return Scorer(problem, PassLedger(problem.task, 200))


def _scored(scorer: Scorer, seed: int) -> tuple[dict[str, np.ndarray], float]:
    corner = scorer.problem.box.random_corner(scorer.problem.random("test", seed))
    return corner, scorer.score([corner])[0].score


def _at_zero(scorer: Scorer) -> Evaluation:
    return scorer.evaluate(tensors_of(scorer.problem.box.zero()), SmoothAccuracy(), 1.0)


def test_a_pattern_that_may_win_has_the_key_of_a_full_run(scorer: Scorer) -> None:
    corner, correct = _scored(scorer, 0)
    key = scorer.score_if_worse(corner, Key(correct, 0.0), near=_at_zero(scorer))
    assert key is not None
    assert key == pytest.approx(
        scorer.score([corner])[0], rel=1e-5
    )  # float32 sums in another order


def test_a_pattern_that_cannot_win_is_given_up_early(scorer: Scorer) -> None:
    corner, correct = _scored(scorer, 1)
    near, ledger = _at_zero(scorer), scorer.ledger
    before = ledger.forward_samples
    assert scorer.score_if_worse(corner, Key(correct - 1, 1.0), near=near) is None
    before, full = ledger.forward_samples, ledger.forward_samples - before
    assert scorer.score_if_worse(corner, Key(20.0, 1.0), near=near) is None
    assert ledger.forward_samples - before < full == len(scorer.problem.attack_set)


def test_the_order_of_samples_changes_no_margin(scorer: Scorer) -> None:
    pattern = tensors_of(scorer.problem.box.random_corner(scorer.problem.random("test")))
    straight, shuffled = (
        scorer.oracle.promising(pattern, order=order, most_correct=np.inf)[0]
        for order in _orders(200)
    )
    assert straight is not None
    assert shuffled is not None
    assert straight[0] == shuffled[0]
    torch.testing.assert_close(straight[1], shuffled[1], rtol=1e-5, atol=1e-6)


def _orders(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.random.default_rng(0).permutation(count)


def test_a_collapsed_run_stops_on_the_plateau(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Problem, "has_collapsed", lambda self, correct: True)
    monkeypatch.setattr(Scorer, "key_of", lambda self, evaluation, pattern: Key(50.0, 0.5))
    monkeypatch.setattr(Scorer, "score_if_worse", lambda self, pattern, than, near: None)
    start = scorer.problem.box.zero()
    climb(scorer, "test", CrossEntropy(), start=start, passes=60, origin="", patience=6)
    assert scorer.ledger.passes == 7


def test_a_search_with_nothing_left_correct_ends(scorer: Scorer) -> None:
    scorer.ledger.record(Key(0.0, 0.0))
    start = scorer.problem.box.zero()
    climb(scorer, "test", CrossEntropy(), start=start, passes=60, origin="")
    assert scorer.ledger.passes == 1


def test_one_pass_more_than_granted_is_an_error_of_its_own(scorer: Scorer) -> None:
    scorer.ledger.most_passes = 0
    with pytest.raises(SelfCheckError, match="search must keep to 0 passes"):
        _at_zero(scorer)


def test_a_lent_ledger_knows_nothing_found_and_gives_back_what_was_spent() -> None:
    ledger = PassLedger(Task(Decision(), np.zeros(4, np.int64), 1, 2), 10)
    ledger.record(Key(3.0, 0.5))
    lent = ledger.lend()
    lent.spend_pass("test")
    lent.ran(4)
    lent.record(Key(0.0, 0.0))
    ledger.settle(lent)
    assert (ledger.passes, ledger.evaluations, ledger.best) == (1, 1, 3.0)
    assert [point.score for point in ledger.trace] == [0.75]
