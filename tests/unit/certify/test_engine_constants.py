"""Constants that a network computes itself are those of the engine, not of exact arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import Refusal
from cimrobust.data.decision import Decision
from tests.unit.search.conftest import Opener

RNG = np.random.default_rng(4)
WEIGHT = RNG.normal(size=(4, 4)).astype(np.float32)
NUMBERS = {"c": RNG.normal(size=4).astype(np.float32), "big": np.float32(1e6)}
SINE = "a = Mul(c, big)\n b = Sin(a)\n h = MatMul(x, w)\n y = Add(h, b)"
#: By what they compute: a body, its constants.
COMPUTED: dict[str, tuple[str, Mapping[str, np.ndarray]]] = {
    "cancelled": ("a = Add(c, big)\n b = Sub(a, big)\n h = MatMul(x, w)\n y = Add(h, b)", NUMBERS),
    "sines": (SINE, NUMBERS),
    "sines of sizes": (
        "s = Shape(x)\n t = Gather(s, last)\n r = Cast<to=1>(t)\n d = Mul(r, c)\n"
        + SINE.replace("Mul(c", "Mul(d"),
        {**NUMBERS, "last": np.array(1)},
    ),
    "integers": (
        "a = Cast<to=1>(c)\n b = Sub(a, big)\n h = MatMul(x, w)\n y = Add(h, b)",
        {"c": np.array([16777217, 16777219, 33554433, 5]), "big": np.float32(16777216)},
    ),
    "integers of samples": (
        "i = Cast<to=7>(x)\n j = Mul(i, many)\n a = Cast<to=1>(j)\n b = Sub(a, big)\n"
        " y = MatMul(b, w)",
        {"many": np.array(16777217), "big": np.float32(16777216)},
    ),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_bounds_hold_the_scores_of_the_engine(opened: Opener, name: str) -> None:
    body, constants = COMPUTED[name]
    x = np.round(3.0 * RNG.normal(size=(5, 4))).astype(np.float32)
    runtime, placement = opened(
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[N, 4] y) {'
        f" {body} }}",
        {"w": WEIGHT, **constants},
        {"x": x},
        tolerance=1e-7,
    )
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    state = propagate(
        network.plan, network.inputs, network.constants, network.weights(1.0), effort=0.0
    )
    scores = state.interval(network.plan.tensor)
    made = torch.from_numpy(runtime.plain.run(placement.nominal(), runtime.dataset.inputs))
    assert ((scores.lo <= made) & (made <= scores.hi)).all()


#: Ones of the size of a batch, and what is made of them.
BATCH = "s = Shape(x)\n o = ConstantOfShape<value=float[1]{1}>(s)\n h = MatMul(x, w)\n"


def _opened(opened: Opener, body: str, constants: Mapping[str, np.ndarray]) -> object:
    return open_bounds(
        *opened(
            '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[N, 4] y) {'
            f" {BATCH} {body} }}",
            {"w": WEIGHT, **constants},
            {"x": RNG.normal(size=(5, 4)).astype(np.float32)},
            np.zeros((5, 4)),
            decision=Decision(read="value", metric="rmse"),
        )
    )


def test_whole_numbers_may_differ_from_batch_to_batch(opened: Opener) -> None:
    found = _opened(opened, "t = Mul(o, k)\n y = Add(h, t)", {"k": np.float32(0.3)})
    assert isinstance(found, BoundedNetwork), found


def test_a_row_that_is_repeated_for_every_sample_is_that_of_the_engine(opened: Opener) -> None:
    found = _opened(opened, "t = Div(o, k)\n y = Add(h, t)", {"k": np.float32(0.3)})
    assert isinstance(found, BoundedNetwork), found
    assert float(np.float32(1) / np.float32(0.3)) in found.plan.constants["t, row"]


def test_a_rounded_constant_of_the_size_of_a_batch_has_no_bound(opened: Opener) -> None:
    found = _opened(
        opened,
        "n = CumSum(o, zero)\n t = Div(n, k)\n m = Mul(t, none)\n y = Add(h, m)",
        {"k": np.float32(0.3), "zero": np.array(0), "none": np.float32(0)},
    )
    assert isinstance(found, Refusal)
    assert "computes a constant that differs from batch to batch, and rounds it" in str(found)


def test_constants_that_the_engine_does_not_give_are_named(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_model: bytes) -> None:
        raise RuntimeError

    monkeypatch.setattr("cimrobust.certify.engine_constants.open_session", fail)
    found = _opened(opened, "t = Div(o, k)\n y = Add(h, t)", {"k": np.float32(0.3)})
    assert isinstance(found, Refusal)
    assert "the constants that the network computes (t) cannot be had from onnxruntime" in str(
        found
    )
