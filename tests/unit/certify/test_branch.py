"""Branching proves more than one pass, for the same chips; results do not depend on the number of
workers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.certify.backward import lower_bound
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.branch import BranchSettings
from cimrobust.certify.interval import Interval
from cimrobust.certify.propagate import propagate
from cimrobust.certify.tighten import tightened
from tests.unit.certify.attack import PerInputAttack
from tests.unit.certify.conftest import Maker
from tests.unit.certify.test_soundness import opened_bounds, random_chips


def test_branching_certifies_larger_boxes(make: Maker) -> None:
    network = opened_bounds(*make("mlp", seed=4, count=20))
    plain, branched = (
        largest_certified_tolerance(network, branching=settings)
        for settings in (None, BranchSettings())
    )
    assert (branched >= plain).all()
    assert (branched > plain).sum() >= 3


def test_ascent_never_loosens(make: Maker) -> None:
    network = opened_bounds(*make("cnn", seed=4))
    _some, inputs = next(network.batches(np.arange(8)))
    state = propagate(network.plan, inputs, {}, network.weights(1.5), effort=1e9)
    form = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    once = lower_bound(state, network.plan.tensor, form)
    better = tightened(state, network.plan.tensor, form, passes=10).bound
    assert (better >= once).all()
    assert (better > once + 1e-6).any()


def test_bounds_of_both_parts_hold_for_their_chips(make: Maker) -> None:
    runtime, placement = make("mlp", seed=5)
    network = opened_bounds(runtime, placement)
    _some, inputs = next(network.batches(np.arange(8)))
    name = next(
        step.node.inputs[0]
        for step in network.plan.steps
        if step.node.op == "Relu" and step.depth == 2
    )
    whole = propagate(network.plan, inputs, {}, network.weights(1.0), effort=1e9)
    data = whole.interval(name)
    unit = torch.minimum(-data.lo, data.hi).argmax(1, keepdim=True)
    form = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bounds = {}
    for side in (1, -1):
        signs = {name: torch.zeros_like(data.lo, dtype=torch.int8).scatter_(1, unit, side)}
        part = propagate(
            network.plan,
            inputs,
            {},
            network.weights(1.0),
            effort=1e9,
            signs=signs,
            known={name: data},
        )
        bounds[side] = tightened(part, network.plan.tensor, form, passes=8, signs=signs).bound
    twin = PerInputAttack(runtime, placement).twin.double()
    seen = set()
    for chip in random_chips(placement, 1.0, 400):
        weights = {key: torch.from_numpy(array).double() for key, array in chip.items()}
        found = twin(inputs, weights, [name, network.plan.tensor])
        values = (form * found[network.plan.tensor]).sum(-1)
        for sample, value in enumerate(found[name].gather(1, unit)[:, 0]):
            side = 1 if value >= 0 else -1
            seen.add((sample, side))
            assert (values[:, sample] >= bounds[side][:, sample]).all()
    assert len(seen) > 8, "both parts must have chips"


def test_signs_cut_intervals() -> None:
    data = Interval(torch.tensor([[-1.0, -1.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0]]))
    cut = data.of_sign(torch.tensor([[1, -1, -1]], dtype=torch.int8))
    assert cut.lo.tolist() == [[0.0, -1.0, 2.0]]
    assert cut.hi.tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_workers_change_nothing(make: Maker, name: str) -> None:
    network = opened_bounds(*make(name, seed=6, count=40))
    one, three = (certify(network, scale=0.7, workers=workers) for workers in (1, 3))
    np.testing.assert_array_equal(one.margin, three.margin)
    np.testing.assert_array_equal(one.certified, three.certified)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_sizes_of_single_samples_are_those_of_one_certificate_each(make: Maker, name: str) -> None:
    network = opened_bounds(*make(name, seed=6, count=20))
    octaves, steps = (-4, 2), 4
    one, three = (
        largest_certified_tolerance(network, octaves=octaves, steps=steps, workers=workers)
        for workers in (1, 3)
    )
    np.testing.assert_array_equal(one, three)
    assert len(set(one)) > 1, "all samples alike say nothing about how they are told apart"
    for size in sorted(set(one[one > 0])):
        here = np.flatnonzero(one == size)
        assert certify(network, scale=size, samples=here).certified.all()
        if size < 2.0 ** octaves[1]:
            assert not certify(
                network, scale=size * 2.0 ** (1 / steps), samples=here
            ).certified.any()
