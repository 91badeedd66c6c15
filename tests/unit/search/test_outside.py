"""A search through nodes that have no torch form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cimrobust.engine.subject import Subject
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.twin.ops import converter_registry as registry

Opener = Callable[..., Any]
TEXT = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
net (float[N, 6] x) => (float[N, 4] y)
{ h = MatMul(x, w) \n NODES \n y = MatMul(m, v) }"""
#: A transform of every sample (onnxruntime has it, torch has no converter), and the same as a
#: product with its table in double precision.
TRANSFORM = (
    "u = Unsqueeze(h, last) \n d = DFT<axis = 1>(u, size) \n p = Mul(d, d) \n s ="
    " ReduceSum<keepdims = 0>(p, last) \n m = Sqrt(s)"
)


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(6, 8)).astype(np.float32),
        "v": random.normal(size=(8, 4)).astype(np.float32),
    }
    return weights | {"last": np.array([2], np.int64), "size": np.array(8, np.int64)}


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)


def test_one_node_without_gradients_does_not_cost_those_of_the_network(opened: Opener) -> None:
    runtime, placement = opened(
        TEXT.replace("NODES", TRANSFORM), arrays(), {"x": samples(60)}, tolerance=0.05
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.has_twin
    (warning,) = [warning for warning in result.warnings if warning.code == "ESTIMATED_GRADIENT"]
    assert "(DFT, finite differences)" in warning.text
    best = {
        member.name: member.score.value for member in result.members if member.score is not None
    }
    assert best["smooth_accuracy"] < min(best["random_corners"], 0.8)


def test_node_that_fails_in_torch_runs_outside(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_node: object) -> Callable[..., Any]:
        def run(*_values: object) -> None:
            raise NotImplementedError("it was never finished")

        return run

    monkeypatch.setitem(
        registry._TABLE, ("", "Celu"), [registry._Entry(1, registry.NEWEST, broken)]
    )
    runtime, placement = opened(
        TEXT.replace("NODES", "m = Celu(h)"), arrays(), {"x": samples(40)}, tolerance=0.05
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.has_twin
    assert [warning.code for warning in result.warnings] == ["ESTIMATED_GRADIENT"]
