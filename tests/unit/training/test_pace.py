"""The learning rate where none is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cimrobust.cli.retrain_command import command
from cimrobust.progress import NullProgress
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training import pace
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.pace import choose_pace
from cimrobust.training.training_job import DivergedError
from tests.unit.training.conftest import quick


@pytest.fixture
def learnt(opened):
    """A session of a network that has learnt its task."""
    session = opened()
    made = train(
        session.job(recipe_of("plain").method(), quick(epochs=8)),
        session.parameters,
        progress=NullProgress(),
    )
    return opened(weights=made.parameters.to_numpy())


def test_largest_rate_that_keeps_the_clean_score_is_taken(learnt, monkeypatch):
    monkeypatch.setattr(pace, "RATES", (100.0, 10.0, 1e-3, 1e-4))
    found = choose_pace(learnt, quick())
    assert found.rate == 1e-3
    assert [row.rate for row in found.tried] == [100.0, 10.0, 1e-3]
    assert found.before > 0.9
    assert found.tried[0].clean < found.before - 0.02
    assert found.tried[2].clean >= found.before - 0.02
    assert choose_pace(learnt, quick()) == found


def test_smallest_rate_is_taken_where_no_other_will_do(learnt, monkeypatch):
    monkeypatch.setattr(pace, "RATES", (100.0, 10.0, 1e-5))
    found = choose_pace(learnt, quick())
    assert found.rate == 1e-5
    assert len(found.tried) == 2


def test_rate_whose_losses_are_not_finite_is_passed_over(learnt, monkeypatch):
    original = pace.train

    def diverging(job, *arguments, **named):
        if job.settings.learning_rate == pace.RATES[0]:
            raise DivergedError("losses must be finite")
        return original(job, *arguments, **named)

    monkeypatch.setattr(pace, "train", diverging)
    found = choose_pace(learnt, quick())
    assert found.rate == pace.RATES[1]
    assert found.tried[0].clean is None


def test_no_more_than_fifty_mini_batches_are_trained_on(learnt, monkeypatch):
    monkeypatch.setattr(pace, "RATES", (1e-3, 1e-4))
    sizes = []
    original = pace.train

    def watched(job, *arguments, **named):
        sizes.append(job.training.count)
        return original(job, *arguments, **named)

    monkeypatch.setattr(pace, "train", watched)
    choose_pace(learnt, quick(batch=2))
    assert sizes == [100]


def test_help_of_the_command_names_the_rates_that_are_tried():
    (option,) = (option for option in command.params if option.name == "learning_rate")
    named = {
        float(word.strip(",")) for word in option.help.split() if word[0].isdigit() and "e-" in word
    }
    assert named == set(pace.RATES)


def test_training_without_a_rate_is_refused(learnt):
    with pytest.raises(ValueError, match="learning rate must be chosen"):
        train(
            learnt.job(recipe_of("plain").method(), replace(TrainingSettings(), epochs=1)),
            learnt.parameters,
            progress=NullProgress(),
        )
