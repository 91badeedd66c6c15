"""The bound that training minimises: above the loss of every chip, and no more optimistic than the
proof.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.errors import ModelNotCoveredError
from cimrobust.training import interval_bound
from cimrobust.training.ascent import deviation_of, random_unit
from cimrobust.training.interval_bound import clean_and_worst_loss, proved_share, worst_loss
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.training_job import make_step
from tests.unit.certify.conftest import NETWORKS, text_of, weights_of
from tests.unit.training.conftest import MLP, dataset, profile_of, quick


def step_of(session):
    job = session.job(recipe_of("ibp").method(), quick())
    return make_step(
        job,
        session.parameters,
        job.validation,
        progress=1.0,
        generator=torch.Generator().manual_seed(1),
        memory={},
    )


@pytest.mark.parametrize("size", [0.0, 0.3, 1.0])
def test_no_chip_of_the_box_has_a_larger_loss(opened, size):
    step = step_of(opened())
    with torch.no_grad():
        bound = float(worst_loss(step, size))
        for _ in range(20):
            corner = {name: unit.sign() for name, unit in random_unit(step).items()}
            assert float(step.loss(deviation_of(step, corner, size))) <= bound + 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_has_a_bound_with_gradients(opened, name):
    arrays, shape = weights_of(name, seed=1), NETWORKS[name][1]
    labels = np.arange(60) % 3
    data = dataset(np.random.default_rng(1).normal(size=(60, *shape)).astype(np.float32), labels)
    step = step_of(
        opened(
            text_of(name, arrays),
            arrays,
            data,
            evaluation=replace(data, inputs={"x": data.inputs["x"] + 100}),
        )
    )
    for chip in step.chips.values():
        chip.nominal.retain_grad()
    bound = worst_loss(step, 0.1)
    bound.backward()
    assert all(
        bool(torch.isfinite(chip.nominal.grad).all() and chip.nominal.grad.any())
        for chip in step.chips.values()
    )
    corners = [{key: unit.sign() for key, unit in random_unit(step).items()} for _ in range(10)]
    with torch.no_grad():
        # float32 sums in another order
        for mine, other in zip(clean_and_worst_loss(step, 0.1), (step.loss(), bound), strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=1e-4, atol=1e-6)
        assert (
            max(float(step.loss(deviation_of(step, corner, 0.1))) for corner in corners)
            <= float(bound) + 1e-5
        )


def test_bound_of_an_empty_box_is_the_loss(opened):
    step = step_of(opened())
    with torch.no_grad():
        assert float(worst_loss(step, 0.0)) == pytest.approx(
            float(step.loss()), rel=1e-4
        )  # rounding radii of float32


@pytest.mark.parametrize("text", ["plain", "with a bias"])
def test_one_pass_gives_the_loss_and_the_bound_with_their_gradients(opened, text):
    with_bias = MLP.replace("h = MatMul(x, w1)\n  a = Add(h, b1)", "a = Gemm(x, w1, b1)")
    step = step_of(opened(MLP if text == "plain" else with_bias))
    weights = [chip.nominal for chip in step.chips.values()]
    clean, bound = clean_and_worst_loss(step, 0.7)
    apart = step.loss(), worst_loss(step, 0.7)
    for mine, other in zip((clean, bound), apart, strict=True):
        # float32 sums of a dozen terms in another order
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        for found, wanted in zip(
            torch.autograd.grad(mine, weights, retain_graph=True),
            torch.autograd.grad(other, weights, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_first_product_is_made_once_for_the_loss_and_the_bound(opened, monkeypatch):
    step, made = step_of(opened()), []
    real = interval_bound._even_product

    def seen(planned, values, chip, size, known):
        made.append(known is not None and planned.node.inputs[0] == "x")
        return real(planned, values, chip, size, known)

    monkeypatch.setattr(interval_bound, "_even_product", seen)
    clean_and_worst_loss(step, 0.5)
    assert made == [True]
    worst_loss(step, 0.5)
    assert made == [True, False]


def test_margins_of_the_last_product_are_better_than_those_of_its_interval(opened, monkeypatch):
    step = step_of(opened(profile=profile_of(0.02)))
    with torch.no_grad():
        together = float(worst_loss(step, 1.0))
        monkeypatch.setattr(
            "cimrobust.training.interval_bound._product_margins", lambda *arguments: None
        )
        assert together < float(worst_loss(step, 1.0))


def test_share_proved_falls_with_the_tolerance(opened):
    shares = [
        proved_share(step_of(opened(profile=profile_of(tolerance))))
        for tolerance in (0.0, 0.005, 0.2)
    ]
    clean = step_of(opened(profile=profile_of(0.0)))
    right = float((clean.logits().argmax(1) == clean.samples.targets[:, 0]).double().mean())
    assert shares[0] == pytest.approx(right)
    assert shares[0] >= shares[1] >= shares[2] == 0.0


def test_operators_without_a_bound_are_named(opened):
    session = opened(MLP.replace("r = Relu(a)", "r = Sinh(a)"))
    with pytest.raises(
        ModelNotCoveredError,
        match=r"needs a bound of every operator, got: .*Sinh.*use another method",
    ):
        worst_loss(step_of(session), 1.0)


@pytest.mark.parametrize("is_centred", [True, False])
@pytest.mark.parametrize("size", [0.3, 1.0])
def test_weights_that_all_deviate_by_the_same_have_the_ends_of_the_general_rule(
    opened, monkeypatch, size, is_centred
):
    step = step_of(opened())
    assert all(chip.is_centred for chip in step.chips.values())
    if not is_centred:
        step.chips = {
            name: replace(chip, lo=0.5 * chip.lo, is_centred=False)
            for name, chip in step.chips.items()
        }
    assert interval_bound._even_products(step, step.network.plan)
    with torch.no_grad():
        found = interval_bound._bounded(step, size, {})
        monkeypatch.setattr(interval_bound, "_even_products", lambda step, plan: {})
        general = interval_bound._bounded(step, size, {})
    for mine, theirs in zip(found, general, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
