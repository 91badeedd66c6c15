"""Normalisation of onnxruntime as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]

OPSETS = [11, 13, 17, 18, 23]


def vectors(rng: np.random.Generator, *names: str) -> dict[str, np.ndarray]:
    return {name: rng.normal(0.5, 1, 8).astype(np.float32) for name in names}


@pytest.mark.parametrize("opset", [7, 11, 13, 16])
@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalisation_before_the_standard_had_it(
    same: Same, rng: np.random.Generator, opset: int, axis: int
) -> None:
    shape = (8,) if axis == -1 else (5, 8)
    arrays = {
        "x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
        "g": rng.normal(0, 1, shape).astype(np.float32),
        "b": rng.normal(0, 1, shape).astype(np.float32),
    }
    same(
        "LayerNormalization",
        ["x", "g", "b"],
        arrays,
        domain="",
        opset=opset,
        axis=axis,
        epsilon=1e-3,
        outputs=["y", "mean", "inverse"],
    )


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified(same: Same, rng: np.random.Generator, opset: int, axis: int) -> None:
    arrays = {
        "x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
        "g": rng.normal(0, 1, (8,) if axis == -1 else (5, 8)).astype(np.float32),
    }
    same("SimplifiedLayerNormalization", ["x", "g"], arrays, domain="", opset=opset, axis=axis)


def test_simplified_with_inverse_deviation(same: Same, rng: np.random.Generator) -> None:
    arrays = {"x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32), **vectors(rng, "g")}
    same("SimplifiedLayerNormalization", ["x", "g"], arrays, domain="", outputs=["y", "inverse"])


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    "inputs",
    [("x", "s", "g"), ("x", "s", "g", "b"), ("x", "s", "g", "", "c"), ("x", "s", "g", "b", "c")],
)
def test_skip(same: Same, rng: np.random.Generator, opset: int, inputs: tuple[str, ...]) -> None:
    arrays = {
        "x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
        "s": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
    }
    arrays |= vectors(rng, *[name for name in inputs[2:] if name])
    same(
        "SkipLayerNormalization",
        inputs,
        arrays,
        opset=opset,
        epsilon=1e-4,
        outputs=["y", "", "", "sum"],
        constants=[name for name in inputs[2:] if name],
    )


@pytest.mark.parametrize("shape", [(5, 8), (1, 5, 8)])
def test_skip_is_repeated_over_the_batch(
    same: Same, rng: np.random.Generator, shape: tuple[int, ...]
) -> None:
    arrays = {
        "x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
        "s": rng.normal(1, 3, shape).astype(np.float32),
        **vectors(rng, "g", "b"),
    }
    same("SkipLayerNormalization", ["x", "s", "g", "b"], arrays)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("bias", [False, True])
def test_skip_simplified(same: Same, rng: np.random.Generator, opset: int, bias: bool) -> None:
    arrays = {
        "x": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
        "s": rng.normal(1, 3, (2, 5, 8)).astype(np.float32),
    }
    arrays |= vectors(rng, "g", *(["c"] if bias else []))
    same(
        "SkipSimplifiedLayerNormalization",
        list(arrays),
        arrays,
        opset=opset,
        epsilon=1e-4,
        outputs=["y", "", "", "sum"],
    )


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_half_precision_is_summed_in_single(same: Same, rng: np.random.Generator, op: str) -> None:
    arrays = {name: rng.normal(1, 3, (2, 5, 8)).astype(np.float16) for name in ("x", "s")}
    arrays["g"] = rng.normal(0, 1, 8).astype(np.float16)
    same(
        op, list(arrays), arrays, outputs=["y", "", "", "sum"], tolerance=2.0**-10, twin=False
    )  # one rounding to half precision
