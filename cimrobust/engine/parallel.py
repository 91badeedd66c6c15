"""Work spread over threads, results in order.

What comes out does not depend on how many threads there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Event, local
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# The stop signal of the work that a pool thread is doing. Thread-local, so that an interrupt
# reaches the innermost loop of whatever runs in the pool without every function in between handing
# the signal on.
_current = local()


class StoppedError(Exception):
    """Work was given up because nobody waits for its result any more; never leaves this package."""


def check_stopped() -> None:
    """Give up the work of this pool thread if its result is not wanted any more.

    Long loops call it between steps.

    Raises:
        StoppedError: `map_ordered` was interrupted, or another item failed.
    """
    stop: Event | None = getattr(_current, "stop", None)
    if stop is not None and stop.is_set():
        raise StoppedError


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computing up to `workers` at a time.

    At most ``2 * workers`` items are begun and not yet handed over, so memory does not grow with
    the number of items. When the caller stops early, is interrupted or an item fails, nothing new
    is begun and running items end at their next `check_stopped`.

    Args:
        function: Runs in another thread; with one worker in the caller's.
        items: Consumed lazily.
        workers: Number of threads, at least 1.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    remaining, stop, outer = iter(items), Event(), getattr(_current, "stop", None)

    def work(item: Item) -> Result:
        _current.stop = stop if outer is None else _Either(stop, outer)
        return function(item)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="cimrobust")
    try:
        pending: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in islice(remaining, 2 * workers)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in islice(remaining, 1))
            yield result
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class _Either(Event):
    """Set when its own or the surrounding pool's signal is."""

    def __init__(self, inner: Event, outer: Event) -> None:
        super().__init__()
        self._inner, self._outer = inner, outer

    def is_set(self) -> bool:
        return self._inner.is_set() or self._outer.is_set()
