"""Samples of a network that takes them one at a time, or so many at a time, share a pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cimrobust.engine.open import Runtime
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.search.losses import CrossEntropy
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.readout import Readout
from cimrobust.search.torch_patterns import tensors_of
from cimrobust.twin.to_torch import to_torch

Opener = Callable[..., tuple[Runtime, Placement]]

# The samples of a batch lie along the second axis of the products: no larger batch fits.
BODIES = {
    "no batch axis": ("[6]", "[4]", "h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2)"),
    "a batch of two": (
        "[2, 6]",
        "[2, 4]",
        (
            "h = MatMul(x, w1) r = Relu(h) t = Transpose(r) m = MatMul(t, mix) n = Transpose(m) y ="
            " MatMul(n, w2)"
        ),
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_gradients_of_a_pass_are_those_of_samples_alone(opened: Opener, kind: str) -> None:
    takes, gives, body = BODIES[kind]
    text = (
        f'<ir_version: 8, opset_import: ["" : 13]> net (float{takes} x) => (float{gives} y) {{'
        f" {body} }}"
    )
    draw = np.random.default_rng(1)
    shapes = {"w1": (6, 8), "w2": (8, 4), "mix": (2, 2)}
    weights = {
        name: draw.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
        if name in body
    }
    if "mix" in weights:
        weights["mix"] = np.diag([0.7, 0.7]).astype(
            np.float32
        )  # one of the batch does not change the other, until weights deviate
    samples = draw.normal(size=(31, 6)).astype(np.float32)
    runtime, placement = opened(text, weights, {"x": samples}, np.arange(31) % 4)
    twin = to_torch(runtime.deployed.model, weight_names=runtime.deployed.weight_names)
    box, labels = box_of(placement), np.arange(31)
    oracle = GradientOracle(
        twin, runtime, Readout("y", "classes"), labels, box, workers=1, device=torch.device("cpu")
    )
    pattern = tensors_of(box.zero(), oracle.device)
    together = oracle.evaluate(pattern, CrossEntropy(), 1.0)
    assert oracle._cut.at_once > 1
    oracle._cut.at_once = 1
    alone = oracle.evaluate(pattern, CrossEntropy(), 1.0)
    torch.testing.assert_close(
        together.margins, alone.margins, rtol=1e-5, atol=1e-5
    )  # float32 sums in another order
    for name, gradient in alone.gradients.items():
        torch.testing.assert_close(together.gradients[name], gradient, rtol=1e-4, atol=1e-5)
