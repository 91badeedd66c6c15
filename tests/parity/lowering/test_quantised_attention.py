"""com.microsoft::QAttention and QEmbedLayerNormalization as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]

BATCH, QUERIES, WIDTH, HEADS = 3, 4, 8, 2


def arrays_of(rng: np.random.Generator, weight: type, scales: int) -> dict[str, np.ndarray]:
    low = 0 if weight is np.uint8 else -60
    return {
        "x": (
            rng.integers(0, 120, (BATCH, QUERIES, WIDTH)).astype(np.uint8)
        ),  # no sums of pairs beyond 16 bits
        "w": rng.integers(low, low + 120, (WIDTH, 3 * WIDTH)).astype(weight),
        "b": rng.normal(0, 0.5, 3 * WIDTH).astype(np.float32),
        "xs": np.asarray(0.02, np.float32),
        "ws": (
            rng.uniform(0.01, 0.02, scales).astype(np.float32)
            if scales > 1
            else np.asarray(0.01, np.float32)
        ),
        "xz": np.asarray(60, np.uint8),
        "wz": np.full(scales, low + 60, weight) if scales > 1 else np.asarray(low + 60, weight),
    }


@pytest.mark.parametrize("scales", [1, 3 * WIDTH])
@pytest.mark.parametrize("weight", [np.int8, np.uint8])
@pytest.mark.parametrize("constant", [True, False])
def test_quantised_attention(
    same: Same, rng: np.random.Generator, weight: type, scales: int, constant: bool
) -> None:
    # Without a constant scale the input is quantised at run time.
    arrays = arrays_of(rng, weight, scales)
    names = ["x", "w", "b", "xs", "ws", "", "xz", "wz"]
    constants = ["w", "b", "ws", "wz", *(["xs", "xz"] if constant else [])]
    same("QAttention", names, arrays, num_heads=HEADS, constants=constants)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("has_past", [False, True])
def test_mask_and_past(same: Same, rng: np.random.Generator, causal: int, has_past: bool) -> None:
    arrays = arrays_of(rng, np.int8, 1) | {"m": np.asarray([4, 2, 1], np.int32)}
    arrays["p"] = rng.normal(0, 1, (2, BATCH, HEADS, 3, WIDTH // HEADS)).astype(np.float32)
    names = ["x", "w", "b", "xs", "ws", "m", "xz", "wz", "p" if has_past else ""]
    if not has_past:
        del arrays["p"]
    same(
        "QAttention",
        names,
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
        constants=["w", "ws", "wz"],
        outputs=["y", "present"],
    )


def test_a_scale_of_one_element(same: Same, rng: np.random.Generator) -> None:
    arrays = {name: np.atleast_1d(value) for name, value in arrays_of(rng, np.int8, 1).items()}
    same(
        "QAttention",
        ["x", "w", "b", "xs", "ws", "", "xz", "wz"],
        arrays,
        num_heads=HEADS,
        constants=["w", "ws", "wz"],
    )


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("has_segments", [True, False])
def test_embedding(same: Same, rng: np.random.Generator, opset: int, has_segments: bool) -> None:
    parts = ["words", "places", "segments", "g", "b"]
    shapes = [(20, WIDTH), (10, WIDTH), (2, WIDTH), (WIDTH,), (WIDTH,)]
    arrays = {
        name: rng.integers(0, 255, shape).astype(np.uint8)
        for name, shape in zip(parts, shapes, strict=True)
    }
    arrays |= {f"{name}_s": np.asarray(rng.uniform(0.01, 0.02), np.float32) for name in parts}
    arrays |= {f"{name}_z": np.asarray(rng.integers(100, 150), np.uint8) for name in parts}
    ids = {
        "ids": rng.integers(0, 20, (3, 5)).astype(np.int32),
        "kinds": rng.integers(0, 2, (3, 5)).astype(np.int32),
    }
    ids["mask"] = (np.arange(5)[None] < np.asarray([[5], [3], [1]])).astype(np.int32)
    names = [
        "ids",
        "kinds",
        *parts,
        "mask",
        *(f"{name}_s" for name in parts),
        *(f"{name}_z" for name in parts),
    ]
    gone = () if has_segments else ("kinds", "segments", "segments_s", "segments_z")
    names = ["" if name in gone else name for name in names]
    constants = [name for name in names if name in arrays]
    given = {name: value for name, value in (arrays | ids).items() if name in names}
    same(
        "QEmbedLayerNormalization",
        names,
        given,
        opset=opset,
        constants=constants,
        outputs=["y", "index"],
        twin=False,
    )
