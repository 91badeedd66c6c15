"""The clean loss gets a larger share after epochs that lost too much clean accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.errors import UsageError
from cimrobust.progress import NullProgress
from cimrobust.training import loop
from cimrobust.training.epoch_choice import held_share
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.state import EpochRow
from cimrobust.training.training_job import make_step
from cimrobust.training.training_protocol import Method, Step
from tests.unit.training.conftest import profile_of, quick


def rows(*eligible: bool) -> list[EpochRow]:
    """Rows of a start that lost too much, which is not asked, and of epochs."""
    return [
        EpochRow(epoch, 0.1, 0.9, 0.5, 0.0, 0.0, 0.0, 1e-3, 0, is_eligible, 1.0, 1.0)
        for epoch, is_eligible in enumerate((False, *eligible))
    ]


def test_what_is_left_falls_fast_and_comes_back_slowly():
    assert held_share(0.25, rows()) == 1.0
    assert held_share(0.25, rows(True, True)) == 1.0
    assert held_share(0.25, rows(False)) == 0.25
    assert held_share(0.25, rows(False, True)) == 0.5
    assert held_share(0.25, rows(False, True, True, True)) == 1.0


def test_what_is_left_never_falls_below_an_eighth():
    assert held_share(0.5, rows(*[False] * 30)) == 0.125
    assert held_share(1.0, rows(*[False] * 30)) == 1.0


def test_each_epoch_is_trained_with_what_the_epochs_before_left_also_when_resumed(
    opened, monkeypatch, tmp_path
):
    seen: list[float] = []

    def loss(step: Step) -> torch.Tensor:
        seen.append(step.held)
        return step.loss()

    session = opened()
    # One mini-batch an epoch.
    job = session.job(Method("held", "test", loss, hold=0.25), quick(epochs=4, batch=1000))
    clean = iter([0.9, 0.5, 0.9, 0.9, 0.9])
    monkeypatch.setattr(loop, "validate", lambda *_, **__: loop.Scored(next(clean), 0.1))

    def run(epochs: int) -> None:
        train(
            job,
            session.parameters,
            progress=NullProgress(),
            checkpoint=tmp_path / "state.pt",
            stops=lambda row: row.epoch == epochs,
        )

    run(2)
    assert seen == [1.0, 0.25]
    run(4)
    assert seen == [1.0, 0.25, 0.5, 1.0]


@pytest.fixture
def loss_of(opened):
    """Return what computes the loss of `cimrobust` with settings, in a box of 10 %."""
    session = opened(profile=profile_of(0.1))

    def compute(held: float, bound_share: float, **knobs: float) -> tuple[float, float]:
        job = session.job(recipe_of("cimrobust").method(knobs), quick())
        step = make_step(
            job,
            session.parameters,
            job.validation,
            progress=0.9,
            generator=torch.Generator().manual_seed(3),
            memory={},
            bound_share=bound_share,
            held=held,
        )
        return float(job.method.loss(step).detach()), float(step.loss().detach())

    return compute


@pytest.mark.parametrize("bound_share", [0.0, 0.2])
def test_what_is_not_left_of_the_loss_is_clean_loss(loss_of, bound_share):
    whole, clean = loss_of(1.0, bound_share)
    half, _ = loss_of(0.5, bound_share)
    assert whole > 1.05 * clean
    # The share of the loss on chips is halved, that of the bound falls with the fourth power
    # (float32).
    attacked, _ = loss_of(1.0, 0.0)
    bounded = (whole - (1.0 - bound_share) * attacked) / bound_share if bound_share else 0.0
    left = clean + 0.5 * (attacked - clean)
    assert half == pytest.approx(
        (1.0 - bound_share / 16) * left + bound_share / 16 * bounded, rel=1e-5
    )
    assert clean < half < whole


def test_without_holding_the_clean_share_stays_as_given(opened, monkeypatch):
    """All epochs lose too much: with the setting the weights come out different, at 1 they are
    those of a method that is never told.
    """
    session = opened(profile=profile_of(0.1))

    def weights(hold: float, clean: float) -> np.ndarray:
        scores = iter([clean, 0.2, 0.2, 0.2])
        monkeypatch.setattr(loop, "validate", lambda *_, **__: loop.Scored(next(scores), 0.1))
        job = session.job(recipe_of("cimrobust").method({"hold": hold}), quick())
        trained = train(job, session.parameters, progress=NullProgress())
        # All scores are equal, so the first epoch is kept; what a later one came to is its loss.
        return np.array([row.loss for row in trained.rows[1:]])

    never = weights(0.5, clean=0.2)
    np.testing.assert_array_equal(weights(1.0, clean=0.9), never)
    held = weights(0.5, clean=0.9)
    assert held[0] == never[0]
    assert (held[1:] < 0.97 * never[1:]).all()


@pytest.mark.parametrize("hold", [0.0, 1.5])
def test_factor_that_would_not_shrink_is_refused(hold):
    with pytest.raises(
        UsageError, match=r"'hold' of method cimrobust must be above 0 and at most 1, got"
    ):
        recipe_of("cimrobust").method({"hold": hold})
