from __future__ import annotations

import pytest

from cimrobust.cluster.blocks import Blocks, share


def test_results_come_back_in_order_whatever_is_done_first() -> None:
    blocks = Blocks(list("abcd"))
    begun = [blocks.next(9) for _ in range(4)]
    assert begun == [(0, ["a"]), (1, ["b"]), (2, ["c"]), (3, ["d"])]
    assert blocks.next(9) is None
    blocks.done(2, ["C"], 1.0)
    assert list(blocks.ready()) == []
    blocks.done(0, ["A"], 1.0)
    assert list(blocks.ready()) == ["A"]
    blocks.done(1, ["B"], 1.0)
    blocks.done(3, ["D"], 1.0)
    assert list(blocks.ready()) == ["B", "C", "D"]
    assert blocks.are_over


@pytest.mark.parametrize(("seconds", "size"), [(0.0, 50), (0.5, 10), (60.0, 1)])
def test_blocks_take_some_seconds(seconds: float, size: int) -> None:
    blocks = Blocks(range(200))
    first = blocks.next(9)
    assert first is not None
    blocks.done(first[0], [0], seconds)
    following = blocks.next(9)
    assert following == (1, range(1, 1 + size))


def test_a_lost_block_comes_next_even_where_results_pile_up() -> None:
    blocks = Blocks(range(10))
    first, second = blocks.next(1), blocks.next(1)
    assert first is not None
    assert second is not None
    blocks.done(second[0], [1], 60.0)
    assert blocks.next(1) is None
    blocks.lost(first)
    assert blocks.next(1) == first


@pytest.mark.parametrize(
    ("items", "workers", "size"), [(1000, 4, 50), (20, 2, 10), (3, 8, 1), (10, 0, 10), (0, 2, 1)]
)
def test_few_items_reach_all_workers(items: int, workers: int, size: int) -> None:
    assert share(range(items), workers, 50) == size
