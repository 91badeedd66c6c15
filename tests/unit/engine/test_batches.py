from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.batches import (
    Feed,
    Feeding,
    cast_inputs,
    check_inputs,
    feeding_of_file,
    free_batch_size,
    run_batches,
)
from cimrobust.errors import UsageError
from cimrobust.onnx_io.network import TensorSpec
from cimrobust.onnx_io.shapes import TensorType

X = np.arange(30, dtype=np.float32).reshape(10, 3)


def _spec(*shape: int | str | None, name: str = "x", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def _double(seen: list[tuple[int, ...]]):  # type: ignore[no-untyped-def]
    def run(feed: Feed, _batch: slice) -> np.ndarray:
        seen.append(feed["x"].shape)
        return feed["x"] * feed["factor"]

    return run


@pytest.mark.parametrize(
    ("feeding", "shapes"),
    [
        (Feeding("free", 4), [(3, 3), (3, 3), (4, 3)]),
        (Feeding("free", 64), [(10, 3)]),
        (Feeding("fixed", 4), [(4, 3)] * 3),
        (Feeding("fixed", 16), [(16, 3)]),
        (Feeding("fixed", 1), [(1, 3)] * 10),
        (Feeding("none", 1), [(3,)] * 10),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_are_put_together_in_every_mode(
    feeding: Feeding, shapes: list[tuple[int, ...]], threads: int
) -> None:
    seen: list[tuple[int, ...]] = []
    output = run_batches(
        _double(seen), {"x": X}, {"factor": np.float32(2)[None]}, feeding, threads=threads
    )
    np.testing.assert_array_equal(output, X * 2)
    assert sorted(seen) == sorted(shapes)


def test_padding_repeats_the_first_samples() -> None:
    fed: list[np.ndarray] = []
    run_batches(
        lambda feed, _: fed.append(feed["x"]) or feed["x"], {"x": X}, {}, Feeding("fixed", 8)
    )  # type: ignore[func-returns-value]
    np.testing.assert_array_equal(fed[1], np.concatenate([X[8:], X[:6]]))


def test_single_sample_files_may_drop_the_sample_axis_in_the_output() -> None:
    output = run_batches(lambda feed, _: feed["x"][0], {"x": X}, {}, Feeding("fixed", 1))
    np.testing.assert_array_equal(output, X)


@pytest.mark.parametrize("feeding", [Feeding("free", 4), Feeding("fixed", 4)])
def test_output_without_sample_axis_is_refused(feeding: Feeding) -> None:
    with pytest.raises(UsageError, match="one entry a sample"):
        run_batches(lambda feed, _: feed["x"].sum(axis=0), {"x": X}, {}, feeding)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3), Feeding("fixed", 1)),
        ((16, 3), Feeding("fixed", 16)),
        (("N", 3), Feeding("free", 32)),
        ((None, 3), Feeding("free", 32)),
        ((3,), Feeding("none", 1)),
    ],
)
def test_sample_axis_of_a_file(shape: tuple[int | str | None, ...], expected: Feeding) -> None:
    assert feeding_of_file([_spec(*shape)], {"x": X}, 32) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(("N", 3), Feeding("fixed", 1)), ((16, 3), Feeding("fixed", 16)), ((3,), Feeding("none", 1))],
)
def test_samples_that_must_be_apart_are_fed_alone_where_the_file_allows_it(
    shape: tuple[int | str | None, ...], expected: Feeding
) -> None:
    assert feeding_of_file([_spec(*shape)], {"x": X}, 32, apart=True) == expected


def test_constant_inputs_have_no_say_in_the_sample_axis() -> None:
    assert feeding_of_file([_spec("N", 3), _spec(7, name="mask")], {"x": X}, 32) == Feeding(
        "free", 32
    )


def test_inputs_that_disagree_on_the_sample_axis_are_refused() -> None:
    with pytest.raises(UsageError, match="agree on the sample axis"):
        feeding_of_file([_spec(1, 3), _spec(3, name="z")], {"x": X, "z": X}, 32)


def test_samples_of_the_wrong_rank_are_refused() -> None:
    with pytest.raises(
        UsageError, match="samples of graph input 'x' must have rank 3 or 4, got shape"
    ):
        feeding_of_file([_spec(1, 1, 3, 3)], {"x": X}, 32)


def test_names_that_do_not_match_are_all_listed() -> None:
    with pytest.raises(
        UsageError,
        match=r"must give exactly the graph inputs .*missing \['x'\], unknown \['image', 'y'\]",
    ):
        check_inputs([_spec(1, 3)], ["y", "image"])


def test_arrays_in_the_right_type_are_not_copied() -> None:
    assert np.shares_memory(cast_inputs([_spec(1, 3)], {"x": X})["x"], X)
    assert cast_inputs([_spec(1, 3, dtype="int64")], {"x": X})["x"].dtype == np.int64
    with pytest.raises(
        UsageError, match=r"values must convert to float32, got <U1 .*; state a dtype that does"
    ):
        cast_inputs([_spec(1, 3)], {"x": np.array(["a"])})


@pytest.mark.parametrize(
    ("elements", "expected"),
    [(10, 256), (4_000, 64), (8_000, 32), (60_000, 16), (1_000_000, 16), (3_000_000, 11)],
)
def test_batch_size_follows_the_largest_activation(elements: int, expected: int) -> None:
    types = {
        "x": TensorType(1, ("N", 3)),
        "a": TensorType(1, (None, elements)),
        "w": TensorType(1, (10**6, 10**6)),
    }
    assert free_batch_size(types, frozenset({"w"}), [_spec("N", 3)]) == expected


def test_batch_size_is_small_where_sizes_are_unknown() -> None:
    assert (
        free_batch_size(
            {"x": TensorType(1, ("N", 3, "H", "W"))}, frozenset(), [_spec("N", 3, "H", "W")]
        )
        == 16
    )
