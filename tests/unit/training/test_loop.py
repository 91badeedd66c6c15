"""The loop: it learns, keeps the right epoch, resumes to the same bits, and refuses to go on with
what is not finite.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from cimrobust.errors import InputRefusedError, ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.progress import NullProgress
from cimrobust.training import loop
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.parameters import check_changed
from cimrobust.training.training_job import DivergedError
from cimrobust.training.training_protocol import Method, Step
from tests.unit.training.conftest import profile_of, quick


def trained(session, method="plain", **changes):
    return train(
        session.job(recipe_of(method).method(), quick(**changes)),
        session.parameters,
        progress=NullProgress(),
    )


def test_training_lowers_the_loss_and_raises_the_accuracy(opened):
    result = trained(opened(), epochs=8)
    assert result.rows[-1].loss < 0.5 * result.rows[1].loss
    assert result.rows[-1].clean > max(result.rows[0].clean, 0.9)


def test_robust_training_raises_the_attacked_accuracy_over_the_control(opened):
    session = opened(profile=profile_of(0.1))
    changes = {"epochs": 10, "search_passes": 9}
    plain, robust = (trained(session, method, **changes) for method in ("plain", "cimrobust"))
    assert robust.rows[robust.best_epoch].attacked > plain.rows[plain.best_epoch].attacked + 0.03


@pytest.mark.parametrize("method", ["a-trice", "cimrobust"])
def test_resumed_run_gives_the_same_bits(opened, tmp_path, monkeypatch, method):
    session = opened()
    job = session.job(recipe_of(method).method(), quick(epochs=4))
    whole = train(job, session.parameters, progress=NullProgress())
    original = loop.train_epoch

    def interrupted(job, state, epoch):
        if epoch == 3:
            raise KeyboardInterrupt
        return original(job, state, epoch)

    monkeypatch.setattr(loop, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(job, session.parameters, progress=NullProgress(), checkpoint=tmp_path / "state.pt")
    monkeypatch.setattr(loop, "train_epoch", original)
    resumed = train(
        job, session.parameters, progress=NullProgress(), checkpoint=tmp_path / "state.pt"
    )
    assert len(resumed.rows) == 5
    for name, array in whole.parameters.to_numpy().items():
        np.testing.assert_array_equal(array, resumed.parameters.to_numpy()[name])


def test_checkpoint_of_another_job_is_refused(opened, tmp_path):
    session = opened()
    train(
        session.job(recipe_of("plain").method(), quick()),
        session.parameters,
        progress=NullProgress(),
        checkpoint=tmp_path / "s.pt",
    )
    with pytest.raises(InputRefusedError, match="same model, data, device, method and settings"):
        train(
            session.job(recipe_of("noise").method(), quick()),
            session.parameters,
            progress=NullProgress(),
            checkpoint=tmp_path / "s.pt",
        )


def test_two_runs_give_the_same_bits_and_another_seed_others(opened):
    session = opened()
    first, again, other = (
        trained(session, "noise", seed=seed).parameters.to_numpy() for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["w1"], other["w1"])


def test_start_is_not_changed(opened):
    session = opened()
    before = session.parameters.to_numpy()
    trained(session)
    assert all(
        np.array_equal(before[name], array) for name, array in session.parameters.to_numpy().items()
    )


def test_losses_that_are_not_finite_end_the_training(opened):
    session = opened()
    method = Method("broken", "test", lambda step: step.loss() * float("nan"))
    with pytest.raises(
        DivergedError,
        match=r"losses and gradients must be finite, got 21 steps .*method broken.*--learning-rate",
    ):
        train(session.job(method, quick(epochs=10)), session.parameters, progress=NullProgress())


def test_single_steps_that_are_not_finite_are_left_out(opened):
    session = opened()

    def sometimes(step: Step) -> torch.Tensor:
        factor = float("inf") if step.progress == 0.0 else 1.0
        return step.loss() * factor

    result = train(
        session.job(Method("sometimes", "test", sometimes), quick()),
        session.parameters,
        progress=NullProgress(),
    )
    assert result.rows[-1].skipped == 1
    assert all(np.isfinite(array).all() for array in result.parameters.to_numpy().values())


def test_epoch_within_the_clean_loss_is_preferred(opened, monkeypatch):
    session = opened()
    scores = iter([(0.9, 0.1), (0.88, 0.3), (0.5, 0.8), (0.89, 0.2)])
    monkeypatch.setattr(loop, "validate", lambda *arguments, **named: loop.Scored(*next(scores)))
    result = trained(session, epochs=3)
    assert [row.eligible for row in result.rows] == [True, True, False, True]
    assert result.best_epoch == 1


def test_epochs_in_a_smaller_box_are_kept_only_if_no_later_one_will_do(opened, monkeypatch):
    session = opened()

    def best_of(*scores: tuple[float, float]) -> int:
        given = iter([(0.9, 0.1), *scores])
        monkeypatch.setattr(loop, "validate", lambda *arguments, **named: loop.Scored(*next(given)))
        method = Method("growing", "test", Step.loss, ready=0.5)
        return train(
            session.job(method, quick(epochs=4)), session.parameters, progress=NullProgress()
        ).best_epoch

    assert best_of((0.9, 0.8), (0.9, 0.3), (0.9, 0.4), (0.9, 0.2)) == 3
    assert best_of((0.9, 0.8), (0.5, 0.9), (0.5, 0.9), (0.6, 0.9)) == 1


def test_training_stops_when_nothing_gets_better_also_when_resumed(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "validate", lambda *arguments, **named: loop.Scored(0.9, 0.5))
    session = opened()
    job = session.job(recipe_of("plain").method(), quick(epochs=9, patience=2))
    for _ in range(2):
        result = train(
            job, session.parameters, progress=NullProgress(), checkpoint=tmp_path / "state.pt"
        )
        assert result.stopped_early
        assert len(result.rows) == 4


def test_narrow_weights_stay_narrow(opened):
    result = train(
        (session := opened()).job(Method("narrow", "test", Step.loss, weight_range=1.5), quick()),
        session.parameters,
        progress=NullProgress(),
    )
    for name in ("w1", "w2"):
        weight = result.parameters.weights[name]
        assert float(weight.abs().max()) <= 1.55 * float(weight.std(unbiased=False))


def test_weights_without_steps_to_round_to_are_named(opened):
    text = """
    <ir_version: 9, opset_import: ["" : 19]>
    net (float[N, 6] x) => (float[N, 4] y) <float8e4m3fn[6, 4] w> {
      c = Cast<to = 1>(w)
      y = MatMul(x, c)
    }"""
    weights = np.ones((6, 4), ml_dtypes.float8_e4m3fn)
    with pytest.raises(
        ModelNotCoveredError,
        match=r"stored weights must be trainable, got 'w' \(type float8_e4m3fn has no steps",
    ):
        opened(text, {"w": weights})


def test_something_must_be_left_to_train(opened):
    with pytest.raises(
        UsageError, match="re-training needs at least one stored weight to train, got none"
    ):
        opened(freeze=["w1", "b1", "w2"])


def test_frozen_initializers_stay_and_unchanged_ones_are_an_error(opened):
    session = opened(freeze=["w1", "b1"])
    result = trained(session)
    assert set(result.parameters.to_numpy()) == {"w2"}
    assert session.trainable.left["w1"] == "frozen by the user"
    before = session.parameters.to_numpy()
    with pytest.raises(
        UsageError, match="every initializer to be trained must change, got the old values in 'w2'"
    ):
        check_changed(before, before)
    check_changed(before, before, must_change=False)
    with pytest.raises(SelfCheckError, match="must be finite, got others in 'w2'"):
        check_changed(before, {"w2": np.full_like(before["w2"], np.nan)}, must_change=False)
