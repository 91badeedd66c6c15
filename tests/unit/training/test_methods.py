"""Methods: what each of them draws, attacks and minimises."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from cimrobust.cli.retrain_command import command
from cimrobust.errors import UsageError
from cimrobust.training.ascent import ascend, deviation_of, random_unit, zero_unit
from cimrobust.training.methods.a_trice_projected import chained_loss
from cimrobust.training.methods.cimrobust import _carried
from cimrobust.training.methods.method_catalogue import RECIPES, recipe_of
from cimrobust.training.methods.trice import censored_mean, censored_noise
from cimrobust.training.training_job import make_step
from tests.unit.training.conftest import profile_of, quick


@pytest.fixture
def step(opened):
    session = opened()
    job = session.job(recipe_of("plain").method(), quick())
    return make_step(
        job,
        session.parameters.copy(),
        job.validation,
        progress=0.9,
        generator=torch.Generator().manual_seed(1),
        memory={},
    )


@pytest.mark.parametrize(("censoring", "mean"), [(0.7, -0.1429), (1.0, -0.0833), (2.0, -0.0085)])
def test_mean_of_censored_noise_is_that_of_the_formula(censoring, mean):
    assert censored_mean(censoring) == pytest.approx(mean, abs=5e-5)
    drawn = (
        torch.randn(400_000, generator=torch.Generator().manual_seed(0))
        .clamp(max=censoring)
        .double()
    )
    # Five standard errors: a false alarm has a probability below 1e-6.
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 / np.sqrt(400_000) + 5e-5)


def test_censored_noise_is_in_units_of_the_largest_weight_and_never_above_the_censoring_point(step):
    noise = censored_noise(step, 0.1, 0.7)
    for name, chip in step.chips.items():
        top = float(chip.nominal.abs().max())
        assert float(noise[name].max()) == pytest.approx(0.07 * top, rel=1e-5)
        assert float(noise[name].min()) < -0.1 * top


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_carried_attack_keeps_a_share_and_draws_the_rest_uniformly(step, keep):
    first = _carried(step, keep)
    assert all(bool((unit.abs() <= 1.0).all()) for unit in first.values())
    step.memory.update({name: torch.full_like(unit, 5.0) for name, unit in first.items()})
    later = torch.cat(
        [unit.reshape(-1) for _ in range(40) for unit in _carried(step, keep).values()]
    ).double()
    fresh = later[later != 5.0]
    # Five standard errors.
    count = len(later)
    assert float((later == 5.0).double().mean()) == pytest.approx(keep, abs=2.5 / np.sqrt(count))
    assert bool((fresh.abs() <= 1.0).all())
    if keep < 1.0:
        few = np.sqrt(len(fresh))
        assert float(fresh.mean()) == pytest.approx(0.0, abs=2.9 / few)
        assert float(fresh.square().mean()) == pytest.approx(1 / 3, abs=1.5 / few)


def test_attack_stays_in_the_box_and_does_damage(step):
    fixed = step.fixed()
    attacked = deviation_of(fixed, ascend(fixed, random_unit(fixed), passes=4, length=0.7))
    for name, chip in fixed.chips.items():
        assert ((attacked[name] >= chip.lo - 1e-7) & (attacked[name] <= chip.hi + 1e-7)).all()
    assert float(fixed.loss(attacked)) > float(fixed.loss())


def test_smaller_box_holds_the_attack_of_a_growing_one(step):
    fixed = step.fixed()
    half = deviation_of(fixed, ascend(fixed, zero_unit(fixed), passes=3, length=1.0, size=0.5), 0.5)
    assert all(
        (half[name].abs() <= 0.5 * chip.hi.abs() + 1e-7).all() for name, chip in fixed.chips.items()
    )


def test_chained_step_is_noise_plus_one_sign_step_projected(step, monkeypatch):
    seen = []
    original = type(step).loss
    monkeypatch.setattr(
        type(step),
        "loss",
        lambda self, deviation=None: seen.append(deviation) or original(self, deviation),
    )
    chained_loss(0.02, 1.0, step)
    (deviation,) = seen
    for name, chip in step.chips.items():
        assert ((deviation[name] >= chip.lo) & (deviation[name] <= chip.hi)).all()
        # noise of two thirds of the half width: most weights end at a face of the box
        assert (
            float(((deviation[name] == chip.lo) | (deviation[name] == chip.hi)).float().mean())
            > 0.4
        )


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_method_gives_a_finite_loss_with_a_gradient_for_every_weight(opened, name):
    session = opened()
    job = session.job(recipe_of(name).method(), quick())
    parameters = session.parameters.copy()
    for tensor in parameters.leaves():
        tensor.requires_grad_()
    step = make_step(
        job,
        parameters,
        job.validation,
        progress=0.7,
        generator=torch.Generator().manual_seed(1),
        memory={},
    )
    loss = job.method.loss(step)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(tensor.grad.any()) for tensor in parameters.leaves())


def test_zero_tolerance_and_zero_noise_give_exactly_the_plain_loss(opened):
    session = opened(profile=profile_of(0.0))
    job = session.job(recipe_of("plain").method(), quick())
    step = make_step(
        job,
        session.parameters.copy(),
        job.validation,
        progress=0.7,
        generator=torch.Generator().manual_seed(1),
        memory={},
    )
    plain = float(step.loss())
    for name, knobs in (
        ("adversarial", {}),
        ("a-trice", {"sigma": 0.0}),
        ("noise", {"sigma": 0.0}),
        ("cimrobust", {}),
    ):
        assert float(recipe_of(name).method(knobs).loss(step)) == pytest.approx(plain, rel=1e-6)


def test_help_of_the_command_lists_every_method():
    (option,) = [parameter for parameter in command.params if parameter.name == "method"]
    assert set(re.findall(r"[a-z-]{3,}", option.help)) >= set(RECIPES)


def test_unknown_methods_and_settings_are_named():
    with pytest.raises(
        UsageError, match=r"method must be one of plain, clip, noise, .*, got 'magic' \(--method\)"
    ):
        recipe_of("magic")
    with pytest.raises(
        UsageError,
        match=r"settings of method noise must be among \['clipping', 'range', 'sigma'\], got"
        r" \['censoring'\] \(--set\)",
    ):
        recipe_of("noise").method({"censoring": 1.0})
