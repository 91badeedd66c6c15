"""com.microsoft::Attention as standard nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

Same = Callable[..., object]

BATCH, QUERIES, WIDTH, HEADS = 3, 4, 8, 2


def base(
    rng: np.random.Generator, sizes: tuple[int, int, int] = (8, 8, 8)
) -> dict[str, np.ndarray]:
    total = sum(sizes)
    return {
        "x": rng.normal(0, 1, (BATCH, QUERIES, WIDTH)).astype(np.float32),
        "w": rng.normal(0, 0.5, (WIDTH, total)).astype(np.float32),
        "b": rng.normal(0, 0.5, total).astype(np.float32),
    }


def masks(num_past: int) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    keys = QUERIES + num_past
    yield "ends", np.asarray([keys, 2, 1], np.int32)
    yield "ends and starts", np.asarray([keys, 3, 2, 0, 1, 1], np.int32)
    yield "keys", rng.integers(0, 2, (BATCH, keys)).astype(np.int32)
    yield "queries and keys", rng.integers(0, 2, (BATCH, QUERIES, keys)).astype(np.int32)
    yield "nothing allowed", np.zeros((BATCH, keys), np.int32)


MASKS = [(num_past, kind, mask) for num_past in (0, 3) for kind, mask in masks(num_past)]


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(
    ("num_past", "mask"),
    [(past, mask) for past, _kind, mask in MASKS],
    ids=[f"{kind}, {past} past" for past, kind, _mask in MASKS],
)
def test_masks(
    same: Same,
    rng: np.random.Generator,
    num_past: int,
    mask: np.ndarray,
    causal: int,
    symbolic: bool,
) -> None:
    arrays, names = base(rng), ["x", "w", "b", "m"]
    arrays["m"] = mask
    if num_past:
        arrays["p"] = rng.normal(0, 1, (2, BATCH, HEADS, num_past, WIDTH // HEADS)).astype(
            np.float32
        )
        names.append("p")
    same(
        "Attention",
        names,
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
        constants=["w", "b"],
        outputs=["y", "present"],
        symbolic=symbolic,
    )


@pytest.mark.parametrize("opset", [11, 12, 13, 18, 23])
def test_operator_sets(same: Same, rng: np.random.Generator, opset: int) -> None:
    arrays = base(rng) | {"m": np.asarray([4, 2, 1], np.int32)}
    same(
        "Attention",
        list(arrays),
        arrays,
        num_heads=HEADS,
        unidirectional=1,
        constants=["w", "b"],
        opset=opset,
    )


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("bias_shape", [(1, 1), (1, HEADS), (BATCH, 1), (BATCH, HEADS)])
def test_bias_of_scores(
    same: Same, rng: np.random.Generator, bias_shape: tuple[int, int], causal: int
) -> None:
    arrays = base(rng)
    arrays["a"] = rng.normal(0, 1, (*bias_shape, QUERIES, QUERIES)).astype(np.float32)
    arrays["m"] = np.asarray([4, 2, 1], np.int32)
    same(
        "Attention",
        ["x", "w", "b", "m", "", "a"],
        arrays,
        num_heads=HEADS,
        unidirectional=causal,
        outputs=["y", "present"],
        constants=["w"],
    )


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 8, 12), (4, 4, 16)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_hidden_sizes_and_scale(
    same: Same, rng: np.random.Generator, sizes: tuple[int, int, int], scale: float | None
) -> None:
    arrays = base(rng, sizes)
    stated = {} if scale is None else {"scale": scale}
    same(
        "Attention",
        ["x", "w", "b"],
        arrays,
        num_heads=HEADS,
        qkv_hidden_sizes=list(sizes),
        constants=["w"],
        **stated,
    )


@pytest.mark.parametrize("value", [-10000.0, -5.0, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("causal", [0, 1])
def test_filter_value(same: Same, rng: np.random.Generator, value: float, causal: int) -> None:
    arrays = base(rng) | {"m": np.asarray([[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]], np.int32)}
    same(
        "Attention",
        list(arrays),
        arrays,
        num_heads=HEADS,
        mask_filter_value=value,
        unidirectional=causal,
        constants=["w"],
    )


def test_without_bias(same: Same, rng: np.random.Generator) -> None:
    arrays = base(rng)
    del arrays["b"]
    same("Attention", ["x", "w"], arrays, num_heads=HEADS, constants=["w"])


@pytest.mark.parametrize("columns", [(BATCH, 1), (1, 1)])
def test_a_mask_of_one_column_masks_nothing(
    same: Same, rng: np.random.Generator, columns: tuple[int, int]
) -> None:
    arrays = base(rng) | {"m": np.ones(columns, np.int32)}
    same("Attention", list(arrays), arrays, num_heads=HEADS, unidirectional=1, symbolic=False)


def test_the_weight_is_read_whole(same: Same, rng: np.random.Generator) -> None:
    pair = same("Attention", ["x", "w", "b"], base(rng), num_heads=HEADS, constants=["w", "b"])
    readers = [node.op_type for node in pair.lowered.graph.node if "w" in node.input]  # type: ignore[attr-defined]
    assert readers == ["MatMul"]
