"""TRICE and A-TRICE as their authors wrote them: each version is what its description says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.data.decision import Decision
from cimrobust.errors import UsageError
from cimrobust.progress import NullProgress
from cimrobust.training import sigma_search
from cimrobust.training.loop import start_training, train
from cimrobust.training.methods.a_trice import VERSIONS, positive_margins, sign_step
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.methods.trice import censored_mean, censored_noise
from cimrobust.training.state import Copies
from cimrobust.training.training_job import deployed, make_step
from cimrobust.training.training_loss import Objective
from cimrobust.training.weight_update import update_early
from tests.unit.training.conftest import MLP, clusters, dataset, quick


def step_of(job, parameters):
    return make_step(
        job,
        parameters,
        job.validation,
        progress=0.5,
        generator=torch.Generator().manual_seed(1),
        memory={},
    )


@pytest.fixture
def step(opened):
    session = opened()
    return step_of(session.job(recipe_of("plain").method(), quick()), session.parameters.copy())


def version(name: str):
    return recipe_of("a-trice").method({"version": name})


def test_margin_counts_correct_decisions_alone_and_a_runner_up_of_at_least_zero():
    rows = torch.tensor([[2.0, 1.5, -1.0], [0.5, 1.0, 0.0], [3.0, -2.0, -1.0]])
    found = positive_margins(Objective("classes"), rows, torch.tensor([[0], [0], [0]]))
    assert float(found) == pytest.approx(0.5 + 0.0 + 3.0)


def test_sign_step_has_its_length_in_half_widths_and_leaves_the_box(step):
    noise = censored_noise(step, 0.1, 1.0)
    found = sign_step(1.0, noise, step)
    for name, chip in step.chips.items():
        moved = ((found[name] - noise[name]) / chip.half).abs()
        assert set(np.round(moved.detach().numpy().ravel(), 4)) <= {0.0, 1.0}
        assert float(moved.mean()) > 0.2
        outside = (found[name] > chip.hi + 1e-6) | (found[name] < chip.lo - 1e-6)
        assert bool(outside.any())


def test_sign_step_lowers_the_margins(step):
    nothing = {name: 0.0 * chip.nominal.detach() for name, chip in step.chips.items()}
    before, after = (
        positive_margins(step.objective, step.logits(chip), step.samples.targets)
        for chip in (nothing, sign_step(1.0, nothing, step))
    )
    assert float(after) < float(before)


@pytest.mark.parametrize(
    ("name", "start"), [("v1", "zero"), ("v2", "noise"), ("v3", "draw"), ("v4", "mean")]
)
def test_every_version_starts_its_attack_where_the_authors_do(step, monkeypatch, name, start):
    begun = []
    original = sign_step

    def watched(eta, where, step):
        begun.append({key: part.detach().clone() for key, part in where.items()})
        return original(eta, where, step)

    monkeypatch.setattr("cimrobust.training.methods.a_trice.sign_step", watched)
    method = version(name)
    (method.loss if method.early is None else method.early.loss)(step)
    first = begun[0]["w1"]
    top = float(step.chips["w1"].nominal.detach().abs().max())
    if start == "zero":
        assert not first.any()
    elif start == "mean":
        expected = censored_mean(1.0) * 0.05 * top
        assert torch.allclose(first, torch.full_like(first, expected))
    else:
        assert float(first.max()) == pytest.approx(0.05 * top, rel=1e-5)
        assert float(first.std()) > 0.01 * top
    assert (method.early is None) == (name in ("v1", "v2"))


def test_second_version_attacks_from_the_noise_of_its_own_loss(step, monkeypatch):
    seen = []
    original = type(step).loss
    monkeypatch.setattr(
        type(step),
        "loss",
        lambda self, chip=None: seen.append(chip) or original(self, chip),
    )
    recipe_of("a-trice").method({"version": "v2", "eta": 0.0}).loss(step)
    attacked, noisy = seen
    assert all(torch.equal(attacked[name], noisy[name]) for name in noisy)


def moved_by_early_step(opened, name):
    session = opened()
    job = session.job(version(name), quick(optimiser="sgd"))
    state = start_training(job, session.parameters)
    before = state.parameters.to_numpy()
    assert update_early(job, state, step_of(job, state.parameters), job.method.early)
    after = state.parameters.to_numpy()
    change = {key: after[key] - before[key] for key in after}
    return before, change, state


def test_published_fault_throws_the_first_step_of_stored_weights_away_alone(opened):
    _before, change, state = moved_by_early_step(opened, "v4-as-published")
    assert not change["w1"].any()
    assert not change["w2"].any()
    assert change["b1"].any()
    momenta = [state.optimiser.state[t]["momentum_buffer"] for t in state.parameters.leaves()]
    assert all(bool(momentum.any()) for momentum in momenta)
    _before, change, _state = moved_by_early_step(opened, "v4")
    assert all(part.any() for part in change.values())


def test_normalised_step_moves_weights_by_the_square_of_the_largest(opened):
    """Of gradient g, step and descent are of W / max|W|: W moves by rate g max|W|^2."""
    moves = {}
    session = opened()
    for name in ("v4", "raw"):
        method = version("v4")
        early = method.early
        job = session.job(method, quick(optimiser="sgd", gradient_norm=1e9))
        state = start_training(job, session.parameters)
        before = state.parameters.copy()
        own = type(early)(early.loss, normalised=name == "v4")
        assert update_early(job, state, step_of(job, state.parameters), own)
        moves[name] = state.parameters.weights["w1"] - before.weights["w1"]
    reach = float(session.parameters.weights["w1"].detach().abs().max())
    torch.testing.assert_close(
        moves["v4"].detach(), moves["raw"].detach() * reach**2, rtol=1e-2, atol=1e-6
    )


def test_mean_of_the_noise_is_added_to_what_is_deployed_and_scored(opened):
    session = opened()
    method = recipe_of("trice").method({"sigma": 0.2})
    job = session.job(method, quick(epochs=1, learning_rate=1e-7))
    result = train(job, session.parameters, progress=NullProgress())
    for name, start in session.parameters.weights.items():
        shift = (result.parameters.weights[name] - start).detach()
        expected = 0.2 * censored_mean(1.0) * float(start.detach().abs().max())
        assert float(shift.mean()) == pytest.approx(expected, rel=0.02)
    without = session.job(recipe_of("trice").method({"mean": 0.0}), quick())
    assert deployed(without, session.parameters, 0.0) is session.parameters
    assert without.method.deployed_mean == 0.0


def test_interval_of_scales_is_halved_around_the_best_copy():
    for best, left in ((0, (0.0, 0.04)), (1, (0.02, 0.06)), (2, (0.04, 0.08))):
        copies = Copies(0.0, 0.08, 0.04, [])
        assert copies.scales() == pytest.approx([0.02, 0.04, 0.06])
        copies.narrow(best)
        assert (copies.low, copies.high) == pytest.approx(left)
    assert len(Copies(0.05, 0.05009, 0.05, []).scales()) == 1


def test_search_goes_towards_the_scale_whose_copy_is_best(opened, monkeypatch):
    """Copies are compared by a quantile; one that likes large noise leads to large noise."""
    session = opened()
    trained_at = []
    original = sigma_search.score_logits
    method = recipe_of("trice-search").method({"runs": 4})
    monkeypatch.setattr(
        sigma_search, "_quantile", lambda job, parameters, mean: trained_at.append(mean) or -mean
    )
    result = train(
        session.job(method, quick(epochs=4)), session.parameters, progress=NullProgress()
    )
    assert original is not None
    assert result.sigma > 0.05
    assert len(trained_at) == 12
    assert trained_at[0] > trained_at[2]


def test_search_ends_with_one_copy_and_resumes_to_the_same_bits(opened, tmp_path, monkeypatch):
    session = opened()
    knobs = {"runs": 3, "lowest": 0.0499, "highest": 0.0502}
    job = session.job(recipe_of("trice-search").method(knobs), quick(epochs=4))
    whole = train(job, session.parameters, progress=NullProgress())
    path = tmp_path / "state.pt"
    train(
        job,
        session.parameters,
        progress=NullProgress(),
        checkpoint=path,
        stops=lambda row: row.epoch == 1,
    )
    resumed = train(job, session.parameters, progress=NullProgress(), checkpoint=path)
    for name, array in whole.parameters.to_numpy().items():
        np.testing.assert_array_equal(array, resumed.parameters.to_numpy()[name])
    assert whole.sigma == resumed.sigma
    assert 0.0499 <= whole.sigma <= 0.0502


def test_versions_are_named_and_others_refused():
    assert recipe_of("a-trice").method().version == next(iter(VERSIONS))
    assert version("V4").version == "v4"
    with pytest.raises(UsageError, match=r"version of method a-trice must be one of .*, got 'v9'"):
        version("v9")
    with pytest.raises(UsageError, match=r"among \[.*'clipping', .*'range', .*\], got \['magic'\]"):
        recipe_of("a-trice").method({"magic": 1.0})
    with pytest.raises(UsageError, match="must be a finite number, got nan"):
        recipe_of("noise").method({"sigma": float("nan")})


def test_a_regression_has_no_margins_to_attack(opened):
    x, _labels = clusters(300, 1)
    values = (x @ np.arange(24).reshape(6, 4) / 20).astype(np.float64)
    data = dataset(x, values, Decision(read="value", metric="rmse"))
    session = opened(MLP, training=data)
    assert session.job(recipe_of("trice").method(), quick()).method.name == "trice"
    with pytest.raises(UsageError, match="decides among classes, got a regression"):
        session.job(version("v3"), quick())


def test_every_method_takes_the_range_that_weights_are_clipped_to():
    for name in ("trice", "a-trice", "adversarial", "noise"):
        assert recipe_of(name).method().weight_range is None
        assert recipe_of(name).method({"range": 2.5}).weight_range == 2.5
    assert recipe_of("clip").method().weight_range == 2.0
