"""Outputs that have no axis but that of the samples, as one score or one value a sample often has."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bounds import certify
from cimrobust.certify.network import BoundedNetwork, open_bounds
from cimrobust.data.decision import Decision
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

TEXT = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 4] x) => (float[N] y) <float[4, 8] w1, float[8, 1] w2, int64[1] last> {
  h = MatMul(x, w1)
  r = Relu(h)
  o = MatMul(r, w2)
  q = Squeeze(o, last)
  y = Tanh(q)
}
"""


@pytest.mark.parametrize("decision", [Decision(read="value", metric="mae"), Decision(read="threshold", threshold=0.0)])
def test_bounds_of_one_value_a_sample_hold(opened: Opener, decision: Decision) -> None:
    random = np.random.default_rng(0)
    weights = {"w1": random.normal(size=(4, 8)).astype(np.float32), "w2": random.normal(size=(8, 1)).astype(np.float32)}
    x = random.normal(size=(12, 4)).astype(np.float32)
    runtime, placement = opened(TEXT, {**weights, "last": np.array([1])}, {"x": x}, decision=decision, tolerance=0.02)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    bounds = certify(network, method="linear")
    assert bounds.certified.sum() >= 6, "the bound must be good for something"
    for chip in random_chips(placement, 1.0, 6):
        output = runtime.plain.run(chip, {"x": x})
        if decision.read == "value":
            assert (np.abs(output - runtime.task.labels) <= -bounds.margin).all()
        else:
            assert runtime.task.right(output)[bounds.certified].all()
