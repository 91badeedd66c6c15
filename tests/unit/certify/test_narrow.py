"""Maxima: taken in front of activation functions, and contests that backward passes narrow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cimrobust.certify.bounded_network import BoundedNetwork
from cimrobust.certify.bounds import largest_certified_tolerance
from cimrobust.certify.interval import Interval
from cimrobust.certify.plan import make_plan, pools_first
from cimrobust.certify.propagate import propagate
from cimrobust.certify.rules.max_pool import MaxPool
from cimrobust.certify.tensor_kinds import ACTIVE
from cimrobust.twin.to_torch import to_torch
from tests.unit.certify.attack import Chip
from tests.unit.certify.conftest import Maker
from tests.unit.certify.test_soundness import opened_bounds, random_chips


def values_of(network: BoundedNetwork, chip: Chip) -> dict[str, Tensor]:
    """Return all tensors of a chip in float64, operator by operator in the order of the plan."""
    weights = {name: torch.from_numpy(array).double() for name, array in chip.items()}
    values = {**network.plan.constants, **network.constants, **network.inputs, **weights}
    for step in network.plan.steps:
        values[step.output] = step.step.kernel(*[values[name] for name in step.node.inputs])
    return values


def test_maxima_come_in_front_of_activation_functions(make: Maker) -> None:
    runtime, placement = make("cnn", seed=1)
    network = opened_bounds(runtime, placement)
    assert [step.node.op for step in network.plan.steps if step.node.op in ("MaxPool", "Relu")] == [
        "MaxPool",
        "Relu",
    ]
    twin = to_torch(
        runtime.deployed.model,
        weight_names=runtime.deployed.weight_names,
        outputs=[runtime.plain.output],
    ).double()
    chip = random_chips(placement, 1.0, 1)[0]
    weights = {name: torch.from_numpy(array).double() for name, array in chip.items()}
    torch.testing.assert_close(
        values_of(network, chip)[network.plan.tensor],
        twin(network.inputs, weights)[network.plan.tensor],
        rtol=0.0,
        atol=0.0,
    )


def test_a_tensor_that_is_read_twice_stays_in_front_of_its_maximum(make: Maker) -> None:
    runtime, _placement = make("cnn", seed=1)
    twin = to_torch(
        runtime.deployed.model,
        weight_names=runtime.deployed.weight_names,
        outputs=[runtime.plain.output],
    ).double()
    plan = make_plan(twin, "r")
    assert pools_first(plan) == plan, "the ReLU's output is the result"


def test_no_chip_leaves_a_narrowed_contest(make: Maker) -> None:
    runtime, placement = make("cnn", seed=3)
    network = opened_bounds(runtime, placement)
    _some, inputs = next(network.batches(np.arange(8)))
    step = next(
        step
        for step in network.plan.steps
        if isinstance(step.rule, MaxPool) and step.kind == ACTIVE
    )
    rule, source = step.rule, step.node.inputs[0]
    assert isinstance(rule, MaxPool)
    loose, tight = (
        rule.contest(
            propagate(network.plan, inputs, {}, network.weights(1.0), effort=effort).interval(
                source
            )
        )
        for effort in (0.0, 1e9)
    )
    rivals = tight.most > 0
    assert rivals.sum() < 0.8 * (loose.most > 0).sum(), "narrowing must decide windows"
    assert ((tight.most - tight.least)[rivals] <= (loose.most - loose.least)[rivals]).all()
    for chip in random_chips(placement, 1.0, 100):
        data = values_of(network, chip)[source]
        windows = rule._windows(Interval.point(data), data)
        above = windows - (windows * tight.reference).sum(2, keepdim=True)
        real = (windows > -1e299) & (tight.reference == 0)
        assert (above <= tight.most + 1e-12)[real].all()
        assert (above >= tight.least - 1e-12)[real].all()


def test_narrowed_contests_certify_more(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    network = opened_bounds(*make("cnn", seed=4))
    narrowed = largest_certified_tolerance(network, branching=None)
    monkeypatch.setattr("cimrobust.certify.propagate.narrow_contest", lambda *arguments: None)
    plain = largest_certified_tolerance(network, branching=None)
    assert (narrowed > plain).sum() >= 3
    assert (narrowed >= plain).all()
