"""com.microsoft::MultiHeadAttention as standard nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Same = Callable[..., object]

BATCH, QUERIES, KEYS, HEADS, SIZE = 3, 4, 6, 2, 4


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape).astype(np.float32)


def apart(
    rng: np.random.Generator, keys: int = QUERIES, value_size: int = SIZE
) -> dict[str, np.ndarray]:
    return {
        "q": normal(rng, BATCH, QUERIES, HEADS * SIZE),
        "k": normal(rng, BATCH, keys, HEADS * SIZE),
        "v": normal(rng, BATCH, keys, HEADS * value_size),
    }


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("has_bias", [False, True])
def test_apart(
    same: Same, rng: np.random.Generator, causal: int, has_bias: bool, symbolic: bool
) -> None:
    arrays = apart(rng) | ({"b": normal(rng, 3 * HEADS * SIZE)} if has_bias else {})
    same(
        "MultiHeadAttention",
        list(arrays),
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
        symbolic=symbolic,
    )


@pytest.mark.parametrize("value_size", [4, 6])
def test_cross_attention(same: Same, rng: np.random.Generator, value_size: int) -> None:
    arrays = apart(rng, KEYS, value_size) | {"b": normal(rng, (2 * SIZE + value_size) * HEADS)}
    same("MultiHeadAttention", list(arrays), arrays, num_heads=HEADS, scale=0.3)


@pytest.mark.parametrize(
    "mask",
    [
        np.asarray([6, 2, 1], np.int32),
        np.random.default_rng(1).integers(0, 2, (BATCH, KEYS)).astype(np.int32),
        np.random.default_rng(1).integers(0, 2, (BATCH, QUERIES, KEYS)).astype(np.int32),
        np.zeros((BATCH, KEYS), np.int32),
    ],
    ids=["ends", "keys", "queries and keys", "nothing allowed"],
)
def test_masks(same: Same, rng: np.random.Generator, mask: np.ndarray) -> None:
    arrays = apart(rng, KEYS) | {"m": mask}
    same(
        "MultiHeadAttention",
        ["q", "k", "v", "", "m"],
        arrays,
        num_heads=HEADS,
        mask_filter_value=-50.0,
    )


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (BATCH, 1), (1, HEADS), (BATCH, HEADS)])
def test_bias_of_scores(
    same: Same, rng: np.random.Generator, shape: tuple[int, int], causal: int
) -> None:
    arrays = apart(rng) | {"a": normal(rng, *shape, QUERIES, QUERIES)}
    same(
        "MultiHeadAttention",
        ["q", "k", "v", "", "", "a"],
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
    )


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("has_mask", [False, True])
def test_past(same: Same, rng: np.random.Generator, causal: int, has_mask: bool) -> None:
    arrays = apart(rng) | {
        "b": normal(rng, 3 * HEADS * SIZE),
        "pk": normal(rng, BATCH, HEADS, 5, SIZE),
        "pv": normal(rng, BATCH, HEADS, 5, SIZE),
    }
    if has_mask:
        arrays["m"] = rng.integers(0, 2, (BATCH, QUERIES + 5)).astype(np.int32)
    names = ["q", "k", "v", "b", "m" if has_mask else "", "", "pk", "pv"]
    same(
        "MultiHeadAttention",
        names,
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
        outputs=["y", "key", "value"],
    )


def test_present_without_past(same: Same, rng: np.random.Generator) -> None:
    same(
        "MultiHeadAttention",
        ["q", "k", "v"],
        apart(rng),
        num_heads=HEADS,
        outputs=["y", "key", "value"],
    )


def test_keys_and_values_in_heads(same: Same, rng: np.random.Generator) -> None:
    arrays = {
        "q": normal(rng, BATCH, QUERIES, HEADS * SIZE),
        "k": normal(rng, BATCH, HEADS, KEYS, SIZE),
        "v": normal(rng, BATCH, HEADS, KEYS, SIZE),
    }
    same("MultiHeadAttention", list(arrays), arrays, num_heads=HEADS)


def test_keys_and_values_in_heads_with_bias(same: Same, rng: np.random.Generator) -> None:
    arrays = {
        "q": normal(rng, BATCH, QUERIES, HEADS * SIZE),
        "k": normal(rng, BATCH, HEADS, KEYS, SIZE),
        "v": normal(rng, BATCH, HEADS, KEYS, SIZE),
    }
    arrays["b"] = normal(rng, 3 * HEADS * SIZE)
    same("MultiHeadAttention", list(arrays), arrays, num_heads=HEADS)


def outputs_of(
    pair: Callable[..., Any], names: list[str], arrays: dict[str, np.ndarray]
) -> np.ndarray:
    settings = {
        "opset": 17,
        "domain": "com.microsoft",
        "outputs": ["y"],
        "constants": [],
        "symbolic": False,
    }
    made = pair("MultiHeadAttention", names, arrays, attributes={"num_heads": HEADS}, **settings)
    return made.run(made.lowered)[0]


@pytest.mark.parametrize("has_bias", [False, True])
def test_packed_query_key_value(
    pair: Callable[..., Any], rng: np.random.Generator, has_bias: bool
) -> None:
    # onnxruntime has packed forms on other processors alone.
    arrays = apart(rng) | {"b": normal(rng, 3 * HEADS * SIZE)}
    bias = "b" if has_bias else ""
    given = {name: arrays[name] for name in ("q", "k", "v", bias) if name}
    packed = {
        "q": np.stack([arrays[name].reshape(BATCH, QUERIES, HEADS, SIZE) for name in "qkv"], 3)
    } | ({"b": arrays["b"]} if has_bias else {})
    np.testing.assert_array_equal(
        outputs_of(pair, ["q", "", "", bias], packed),
        outputs_of(pair, ["q", "k", "v", bias], given),
    )


def test_packed_key_value(pair: Callable[..., Any], rng: np.random.Generator) -> None:
    arrays = apart(rng, KEYS)
    packed = {
        "q": arrays["q"],
        "k": np.stack([arrays[name].reshape(BATCH, KEYS, HEADS, SIZE) for name in "kv"], 3),
    }
    np.testing.assert_array_equal(
        outputs_of(pair, ["q", "k"], packed), outputs_of(pair, ["q", "k", "v"], arrays)
    )


@pytest.mark.parametrize("opset", [11, 12, 13, 18, 23])
def test_operator_sets(same: Same, rng: np.random.Generator, opset: int) -> None:
    arrays = apart(rng) | {"m": np.asarray([4, 2, 1], np.int32)}
    same(
        "MultiHeadAttention",
        ["q", "k", "v", "", "m"],
        arrays,
        num_heads=HEADS,
        unidirectional=1,
        opset=opset,
    )
