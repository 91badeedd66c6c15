"""The search for settings: it keeps to its budget, starts from the defaults, and gives the same
result again.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from cimrobust.errors import UsageError
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.state import EpochRow
from cimrobust.training.training_job import DivergedError
from cimrobust.training.tuning import score_of, tune
from tests.unit.training.conftest import profile_of, quick

ROW = EpochRow(1, 0.1, 0.9, 0.6, 0.8, 0.85, 0.3, 1e-3, 0, True, 1.0, 1.0)


def test_search_keeps_to_its_budget_and_prunes(opened):
    session = opened(profile=profile_of(0.1))
    found = tune(session, recipe_of("a-trice-chained"), quick(epochs=15), budget=30)
    assert 24 < found.used <= 30
    assert sum(trial.epochs for trial in found.trials) == found.used
    assert any(trial.pruned for trial in found.trials)
    assert dict(found.trials[0].values) == pytest.approx(
        {"learning_rate": 1e-2, "sigma": 0.05, "censoring": 1.0}
    )
    best = max(found.trials, key=lambda trial: trial.score)
    assert {"learning_rate": found.learning_rate, **found.values} == dict(best.values)


def test_search_gives_the_same_again(opened):
    session = opened()
    first, again = (tune(session, recipe_of("noise"), quick(), budget=12) for _ in range(2))
    assert first == again


def test_a_trial_that_diverges_is_the_worst_and_ends_nothing(opened, monkeypatch):
    def diverges_when_fast(job, parameters, **more):
        if job.settings.learning_rate != quick().learning_rate:
            raise DivergedError("losses must be finite")
        return train(job, parameters, **more)

    monkeypatch.setattr("cimrobust.training.tuning.train", diverges_when_fast)
    found = tune(opened(), recipe_of("noise"), quick(), budget=8)
    assert [trial.epochs for trial in found.trials] == [4, 1, 1, 1, 1]
    assert found.learning_rate == quick().learning_rate
    assert max(trial.score for trial in found.trials[1:]) < -1e9


def test_score_prefers_attacked_then_percentile_and_never_too_much_clean_loss():
    def score(**changes):
        return score_of(replace(ROW, **changes), higher_is_better=True, proves=False)

    assert (
        score(attacked=0.61, kpp=0.0)
        > score()
        > score(kpp=0.7)
        > score(eligible=False, attacked=1.0)
    )
    assert score_of(replace(ROW, attacked=0.1), higher_is_better=True, proves=True) > score_of(
        replace(ROW, proved=0.1), higher_is_better=True, proves=True
    )
    assert score_of(ROW, higher_is_better=False, proves=False) > score_of(
        replace(ROW, attacked=0.7), higher_is_better=False, proves=False
    )


def test_budget_and_library_are_checked(opened, monkeypatch):
    session = opened()
    with pytest.raises(UsageError, match=r"must be 4 epochs or more, got 3 \(--tune\)"):
        tune(session, recipe_of("noise"), quick(), budget=3)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"must have Optuna, got none .*cimrobust\[retrain\]"):
        tune(session, recipe_of("noise"), quick(), budget=12)
