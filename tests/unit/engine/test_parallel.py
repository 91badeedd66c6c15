from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cimrobust.engine.parallel import StoppedError, check_stopped, map_ordered


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(map_ordered(lambda item: item * item, range(50), workers=workers)) == [
        item * item for item in range(50)
    ]


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_ordered(lambda item: item, items(), workers=2)
    next(results)
    assert len(taken) <= 5
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5


def test_failure_of_an_item_ends_the_work() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("item 3")
        return item

    with pytest.raises(ValueError, match="item 3"):
        list(map_ordered(work, range(1000), workers=2))
    assert len(begun) < 20


@pytest.mark.parametrize("nested", [False, True])
def test_running_items_give_up_when_nobody_waits(nested: bool) -> None:
    gave_up = threading.Event()
    running = threading.Event()

    def endless(item: int) -> int:
        running.set()
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            try:
                check_stopped()
            except StoppedError:
                gave_up.set()
                raise
        return item

    def work(item: int) -> int:
        if item == 0:
            running.wait(30)
            return item
        return sum(map_ordered(endless, [item, item], workers=2)) if nested else endless(item)

    results = map_ordered(work, range(4), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert gave_up.is_set()


def test_check_outside_of_a_pool_does_nothing() -> None:
    check_stopped()
