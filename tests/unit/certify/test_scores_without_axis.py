"""A score a sample that has no axis of its own (a squeezed output, a product with a vector), and
products that are no matrix's.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.refusal import Refusal
from cimrobust.data.decision import Decision
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from tests.unit.certify.attack import PerInputAttack
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 6] x) => (float[N] y)'
BODIES = {
    "squeezed": (
        " <float[6, 10] w, float[10, 1] v, int64[1] axes> { h = MatMul(x, w)\n r = Relu(h)\n z ="
        " MatMul(r, v)\n y = Squeeze(z, axes) }"
    ),
    "bent behind": (
        " <float[6, 10] w, float[10, 1] v, int64[1] axes> { h = MatMul(x, w)\n r = Relu(h)\n z ="
        " MatMul(r, v)\n s = Squeeze(z, axes)\n t = Tanh(s)\n u = Relu(t)\n y = Add(u, t) }"
    ),
    "vector": (
        " <float[6, 10] w, float[10] v> { h = MatMul(x, w)\n r = Relu(h)\n y = MatMul(r, v) }"
    ),
    "vector at positions": (
        " <float[6, 10] w, float[1, 4] k, float[4] v, int64[1] axes> { h = MatMul(x, w)\n a ="
        " Unsqueeze(h, two)\n b = MatMul(a, k)\n r = Relu(b)\n c = MatMul(r, v)\n y ="
        " ReduceMean<axes=[1], keepdims=0>(c) }"
    ),
}


def open_scores(opened: Opener, body: str, decision: Decision) -> tuple[Runtime, Placement]:
    random = np.random.default_rng(5)
    shapes = {"w": (6, 10), "v": (10, 1), "k": (1, 4)} | ({"v": (10,)} if body == "vector" else {})
    shapes |= {"v": (4,)} if body == "vector at positions" else {}
    text = HEAD + BODIES[body].replace(
        "int64[1] axes", "int64[1] axes, int64[1] two" if "two" in BODIES[body] else "int64[1] axes"
    )
    named = {
        name: (random.normal(size=shape) / 2).astype(np.float32)
        for name, shape in shapes.items()
        if f"] {name}" in text
    }
    named |= {"axes": np.array([1])} if "Squeeze(z" in text else {}
    named |= {"two": np.array([2]), "axes": np.array([1])} if "two" in text else {}
    x = random.normal(size=(8, 6)).astype(np.float32)
    return opened(text, named, {"x": x}, decision=decision)


@pytest.mark.parametrize("body", BODIES)
def test_thresholds_are_certified_and_no_chip_breaks_them(opened: Opener, body: str) -> None:
    runtime, placement = open_scores(opened, body, Decision(read="threshold", threshold=0.05))
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    sizes = largest_certified_tolerance(network)
    assert (sizes > 0).sum() >= 6
    attack = PerInputAttack(runtime, placement, network=network)
    for sample in np.flatnonzero(sizes > 0):
        _margin, chip = attack.worst(int(sample), float(sizes[sample]))
        for weights in (chip, *random_chips(placement, float(sizes[sample]), 4)):
            output = runtime.plain.run(
                weights, {key: array[[sample]] for key, array in runtime.dataset.inputs.items()}
            )
            assert int(output[0] > np.float32(0.05)) == runtime.task.labels[sample]


@pytest.mark.parametrize("body", BODIES)
def test_errors_are_bounded(opened: Opener, body: str) -> None:
    runtime, placement = open_scores(opened, body, Decision(read="value", metric="max_error"))
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    linear, interval = certify(network), certify(network, method="interval")
    assert (linear.margin >= interval.margin).all()
    for weights in random_chips(placement, 1.0, 20):
        errors = np.abs(
            runtime.plain.run(weights, runtime.dataset.inputs).reshape(-1)
            - runtime.task.labels.reshape(-1)
        )
        assert (errors <= -linear.margin).all()


def test_a_stack_of_matrices_is_refused(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4, 1, 4] x) => (float[N, 4] y)'
        " <float[4, 4, 4] w, float[16, 4] v>{ h = MatMul(x, w)\n r = Relu(h)\n f = Flatten(r)\n y ="
        " MatMul(f, v) }"
    )
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in {"w": (4, 4, 4), "v": (16, 4)}.items()
    }
    refused = open_bounds(
        *opened(text, weights, {"x": random.normal(size=(6, 4, 1, 4)).astype(np.float32)})
    )
    assert isinstance(refused, Refusal)
    assert "must be a matrix or a vector, got 3 axes" in refused.reason
