"""com.microsoft::GroupQueryAttention and RotaryEmbedding as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]

BATCH, QUERIES, HEADS, GROUPS, SIZE, LONGEST = 2, 4, 4, 2, 32, 16
NAMES = ["q", "k", "v", "pk", "pv", "last", "total", "cos", "sin", "ids", "a", "sink"]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape).astype(np.float32)


def prompt(rng: np.random.Generator, num_past: int = 0, room: int = 0) -> dict[str, np.ndarray]:
    """Inputs of a node that has `num_past` positions in a cache with room for more."""
    total, batch = (
        QUERIES + num_past,
        (1 if num_past else BATCH),
    )  # onnxruntime takes no more samples at once
    arrays = {
        name: normal(rng, batch, QUERIES, heads * SIZE)
        for name, heads in (("q", HEADS), ("k", GROUPS), ("v", GROUPS))
    }
    arrays |= {name: normal(rng, batch, GROUPS, room or num_past, SIZE) for name in ("pk", "pv")}
    arrays["last"] = np.full(batch, total - 1, np.int32)
    arrays["total"] = np.asarray([total], np.int32)
    return arrays


def rotary(rng: np.random.Generator, half: int = SIZE // 2) -> dict[str, np.ndarray]:
    angles = rng.uniform(0, 6, (LONGEST, half)).astype(np.float32)
    return {"cos": np.cos(angles), "sin": np.sin(angles)}


def names(arrays: dict[str, np.ndarray]) -> list[str]:
    return [name if name in arrays else "" for name in NAMES]


def check(same: Same, arrays: dict[str, np.ndarray], **settings: object) -> None:
    attributes: dict[str, object] = {"num_heads": HEADS, "kv_num_heads": GROUPS, **settings}
    constants = [name for name in ("cos", "sin") if name in arrays]
    same(
        "GroupQueryAttention",
        names(arrays),
        arrays,
        outputs=["y", "key", "value"],
        constants=constants,
        **attributes,
    )


@pytest.mark.parametrize("symbolic", [True, False])
@pytest.mark.parametrize("num_past", [0, 3])
def test_causal(same: Same, rng: np.random.Generator, num_past: int, symbolic: bool) -> None:
    check(same, prompt(rng, num_past), symbolic=symbolic)


@pytest.mark.parametrize("opset", [12, 13, 18, 23])
def test_operator_sets(same: Same, rng: np.random.Generator, opset: int) -> None:
    check(same, prompt(rng, 3) | rotary(rng), do_rotary=1, opset=opset)


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("num_past", [0, 3])
def test_window(same: Same, rng: np.random.Generator, num_past: int, window: int) -> None:
    check(same, prompt(rng, num_past), local_window_size=window)


@pytest.mark.parametrize(
    "settings",
    [
        {"softcap": 2.0},
        {"scale": 0.2},
        {"smooth_softmax": 1},
        {"softcap": 1.5, "local_window_size": 3},
    ],
)
def test_scores(same: Same, rng: np.random.Generator, settings: dict[str, object]) -> None:
    check(same, prompt(rng, 3), **settings)


def test_sink(same: Same, rng: np.random.Generator) -> None:
    check(same, prompt(rng, 3) | {"sink": normal(rng, HEADS)})


@pytest.mark.parametrize("cap", [0.0, 1.5])
@pytest.mark.parametrize("shape", [(1, 1), (1, HEADS)])
def test_bias_of_scores(
    same: Same, rng: np.random.Generator, shape: tuple[int, int], cap: float
) -> None:
    check(same, prompt(rng, 3) | {"a": normal(rng, *shape, QUERIES, QUERIES + 3)}, softcap=cap)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("half", [SIZE // 2, SIZE // 4])
@pytest.mark.parametrize("num_past", [0, 3])
def test_rotary(
    same: Same, rng: np.random.Generator, num_past: int, half: int, interleaved: int
) -> None:
    check(
        same, prompt(rng, num_past) | rotary(rng, half), do_rotary=1, rotary_interleaved=interleaved
    )


@pytest.mark.parametrize("num_past", [0, 3])
def test_positions(same: Same, rng: np.random.Generator, num_past: int) -> None:
    ids = np.arange(QUERIES)[None].repeat(1 if num_past else BATCH, 0) + 5
    check(same, prompt(rng, num_past) | rotary(rng) | {"ids": ids}, do_rotary=1)


def test_packed(same: Same, rng: np.random.Generator) -> None:
    arrays = prompt(rng, 3) | rotary(rng)
    arrays["q"] = normal(rng, 1, QUERIES, (HEADS + 2 * GROUPS) * SIZE)
    del arrays["k"], arrays["v"]
    check(same, arrays, do_rotary=1)


def test_as_many_groups_as_heads(same: Same, rng: np.random.Generator) -> None:
    arrays = prompt(rng)
    arrays |= {name: normal(rng, BATCH, QUERIES, HEADS * SIZE) for name in ("k", "v")}
    arrays |= {name: normal(rng, BATCH, HEADS, 0, SIZE) for name in ("pk", "pv")}
    check(same, arrays, kv_num_heads=HEADS)


def test_one_token_after_samples_of_two_lengths(same: Same, rng: np.random.Generator) -> None:
    arrays = {
        "q": normal(rng, BATCH, 1, HEADS * SIZE),
        "k": normal(rng, BATCH, 1, GROUPS * SIZE),
        "v": normal(rng, BATCH, 1, GROUPS * SIZE),
    }
    arrays |= {name: normal(rng, BATCH, GROUPS, 7, SIZE) for name in ("pk", "pv")}
    arrays |= {"last": np.asarray([4, 7], np.int32), "total": np.asarray([8], np.int32)} | rotary(
        rng
    )
    # What the cache holds past the end of a sample is anything.
    check(same, arrays, do_rotary=1, skip=["key", "value"])


def test_a_prompt_of_samples_of_two_lengths(same: Same, rng: np.random.Generator) -> None:
    arrays = prompt(rng) | rotary(rng)
    arrays["last"] = np.asarray([1, 3], np.int32)
    check(same, arrays, do_rotary=1, skip=["key", "value"])


@pytest.mark.parametrize("num_past", [0, 3])
def test_a_cache_with_room(same: Same, rng: np.random.Generator, num_past: int) -> None:
    arrays = prompt(rng, num_past, room=12) | rotary(rng)
    check(same, arrays, do_rotary=1, skip=["key", "value"])


def test_without_past(same: Same, rng: np.random.Generator) -> None:
    arrays = prompt(rng)
    del arrays["pk"], arrays["pv"]
    check(same, arrays)


def test_without_causality(same: Same, rng: np.random.Generator) -> None:
    check(same, prompt(rng, 0), causal=0)


@pytest.mark.parametrize("shape", [(BATCH, QUERIES, HEADS * SIZE), (BATCH, HEADS, QUERIES, SIZE)])
@pytest.mark.parametrize("ids", [np.asarray([3]), np.asarray([[0, 1, 2, 3], [4, 9, 2, 11]])])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(
    same: Same, rng: np.random.Generator, shape: tuple[int, ...], ids: np.ndarray, interleaved: int
) -> None:
    arrays = {"x": normal(rng, *shape), "ids": ids, **rotary(rng)}
    same("RotaryEmbedding", list(arrays), arrays, interleaved=interleaved, constants=["cos", "sin"])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("opset", [11, 17, 23])
def test_part_of_a_head_is_turned(
    same: Same, rng: np.random.Generator, interleaved: int, opset: int
) -> None:
    arrays = {
        "x": normal(rng, BATCH, QUERIES, HEADS * SIZE),
        "ids": np.asarray([2]),
        **rotary(rng, 2),
    }
    settings = {"rotary_embedding_dim": 4, "num_heads": HEADS, "interleaved": interleaved}
    same("RotaryEmbedding", list(arrays), arrays, constants=["cos", "sin"], opset=opset, **settings)
