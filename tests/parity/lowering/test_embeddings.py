"""Embedding layers as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]

NAMES = ["ids", "kinds", "words", "places", "segments", "g", "b", "mask", "at"]


def tables(rng: np.random.Generator) -> dict[str, np.ndarray]:
    arrays = {
        name: rng.normal(0, 1, (rows, 8)).astype(np.float32)
        for name, rows in (("words", 20), ("places", 10), ("segments", 2))
    }
    arrays |= {name: rng.normal(0, 1, 8).astype(np.float32) for name in ("g", "b")}
    return arrays | {
        "ids": rng.integers(0, 20, (3, 5)).astype(np.int32),
        "kinds": rng.integers(0, 2, (3, 5)).astype(np.int32),
    }


@pytest.mark.parametrize("opset", [11, 13, 17, 23])
@pytest.mark.parametrize("extra", [(), ("mask",), ("at",), ("mask", "at")])
def test_embedding(
    same: Same, rng: np.random.Generator, opset: int, extra: tuple[str, ...]
) -> None:
    given = {
        "mask": (np.arange(5)[None] < np.asarray([[5], [3], [0]])).astype(np.int32),
        "at": rng.integers(0, 10, (3, 5)).astype(np.int32),
    }
    arrays = tables(rng) | {name: given[name] for name in extra}
    names = [name if name in arrays else "" for name in NAMES]
    constants = ["words", "places", "segments", "g", "b"]
    same(
        "EmbedLayerNormalization",
        names,
        arrays,
        opset=opset,
        constants=constants,
        outputs=["y", "index", "sum"],
        epsilon=1e-6,
    )


def test_without_segments(same: Same, rng: np.random.Generator) -> None:
    arrays = tables(rng)
    del arrays["kinds"], arrays["segments"]
    names = [name if name in arrays else "" for name in NAMES]
    same(
        "EmbedLayerNormalization",
        names,
        arrays,
        constants=["words", "places", "g", "b"],
        outputs=["y", "index"],
    )
