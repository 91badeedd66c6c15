"""The Gelu family as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]


@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize("op", ["Gelu", "BiasGelu", "FastGelu", "QuickGelu"])
def test_gelu(same: Same, rng: np.random.Generator, op: str, opset: int) -> None:
    arrays = {"x": rng.normal(0, 3, (2, 5, 8)).astype(np.float32)}
    if op == "BiasGelu":
        arrays["b"] = rng.normal(0, 1, 8).astype(np.float32)
    same(op, list(arrays), arrays, opset=opset)


def test_fast_gelu_with_bias(same: Same, rng: np.random.Generator) -> None:
    arrays = {
        "x": rng.normal(0, 3, (2, 5, 8)).astype(np.float32),
        "b": rng.normal(0, 1, 8).astype(np.float32),
    }
    same("FastGelu", ["x", "b"], arrays, constants=["b"])


@pytest.mark.parametrize("alpha", [1.0, 1.702, -0.5])
def test_quick_gelu_has_a_slope(same: Same, rng: np.random.Generator, alpha: float) -> None:
    same("QuickGelu", ["x"], {"x": rng.normal(0, 3, (2, 5)).astype(np.float32)}, alpha=alpha)
