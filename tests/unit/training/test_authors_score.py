"""The authors' scores: where their sign walk and Carlini-Wagner search end, faults included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.training import authors_score
from cimrobust.training.authors_score import (
    bound_of,
    carlini_wagner_as_published,
    sign_walk,
)
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.training_job import make_step
from tests.unit.training.conftest import profile_of, quick


@pytest.fixture
def step(opened):
    session = opened(profile=profile_of(0.02))
    job = session.job(recipe_of("plain").method(), quick())
    return make_step(
        job,
        session.parameters.copy(),
        job.validation,
        progress=0.0,
        generator=torch.Generator(),
        memory={},
    )


def in_bounds(step, found):
    """Deviations in units of the bound, by initializer."""
    return {
        name: found.deviations[name] / (bound_of(step) * float(chip.reach.detach()))
        for name, chip in step.chips.items()
    }


def test_sign_walk_goes_in_tenths_of_the_bound_and_stops_at_it(step):
    found = sign_walk(step)
    noise = in_bounds(step, found)
    assert found.steps >= 10
    for part in noise.values():
        np.testing.assert_allclose(part * 10, np.round(part * 10), atol=1e-3)
    assert max(part.max() for part in noise.values()) == pytest.approx(1.0, abs=1e-3)
    assert found.reached == pytest.approx(max(abs(part).max() for part in noise.values()), abs=1e-3)


def test_sign_walk_passes_the_bound_on_the_negative_side(step, monkeypatch):
    """All weights go down: no noise is ever positive, so only the number of steps ends it."""
    monkeypatch.setattr(
        authors_score,
        "_gradients",
        lambda fixed, noise, batches: {name: torch.ones_like(part) for name, part in noise.items()},
    )
    found = sign_walk(step)
    assert found.steps == 100
    assert found.reached == pytest.approx(10.0, rel=1e-4)


def test_sign_walk_lowers_the_accuracy(step):
    found = sign_walk(step)
    chip = {name: torch.from_numpy(part) for name, part in found.deviations.items()}
    labels = step.samples.targets.reshape(-1)
    before, after = (
        float((step.fixed().logits(deviation).argmax(1) == labels).double().mean())
        for deviation in (None, chip)
    )
    assert after < before


def test_carlini_wagner_keeps_noise_on_or_outside_the_bound_alone(step):
    found = carlini_wagner_as_published(step)
    assert found is not None
    assert 1.0 <= found.reached < 1.2
    assert found.steps % authors_score.EPOCHS == 0


def test_carlini_wagner_keeps_nothing_where_the_first_noise_falls_short(step, monkeypatch):
    monkeypatch.setattr(authors_score, "_SPEED", 0.5)
    assert carlini_wagner_as_published(step) is None


def test_both_leave_the_network_as_it_is(step):
    before = {name: chip.nominal.detach().clone() for name, chip in step.chips.items()}
    sign_walk(step)
    carlini_wagner_as_published(step)
    assert all(torch.equal(before[name], chip.nominal) for name, chip in step.chips.items())
