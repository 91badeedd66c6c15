"""Items cut into blocks, and results put back into order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

#: Seconds that a block should take: much more than it costs to send one, and little enough to lose.
_AIM_SECONDS = 5.0
#: Most items of a block, whatever they take.
MOST_ITEMS = 50

#: Place of the first item, and the items.
Block = tuple[int, Sequence[Any]]


def share(items: Sequence[Any], workers: int, most: int) -> int:
    """Return how many items a block may have, so that few and quick ones reach all workers.

    Args:
        items: Of a task.
        workers: How many there are.
        most: More no block may have.
    """
    return max(1, min(most, len(items) // max(workers, 1)))


class Blocks:
    """The blocks of one task; no result depends on how they are cut.

    The first are of one item. How long they took decides on the size of those that follow.
    """

    def __init__(self, items: Sequence[Any], *, most: int = MOST_ITEMS) -> None:
        """Take the items of a task; a block has `most` of them at most."""
        self._items, self._most = items, most
        self._begun, self._handed, self._size = 0, 0, 1
        self._again: deque[Block] = deque()
        self._done: dict[int, list[Any]] = {}

    def next(self, most_waiting: int) -> Block | None:
        """Return the next block; None: all were given out, or results pile up behind a slow one.

        Args:
            most_waiting: Blocks that may be done and wait for one before them.
        """
        if self._again:
            return self._again.popleft()
        if self._begun >= len(self._items) or len(self._done) >= most_waiting:
            return None
        start, block = self._begun, self._items[self._begun : self._begun + self._size]
        self._begun += len(block)
        return start, block

    def lost(self, block: Block) -> None:
        """Give out a block once more, before all others."""
        self._again.append(block)

    def done(self, start: int, results: list[Any], seconds: float) -> None:
        """Take the results of a block and learn from its time."""
        self._done[start] = results
        each = max(seconds / len(results), 1e-6)
        self._size = max(1, min(self._most, int(_AIM_SECONDS / each)))

    def ready(self) -> Iterator[Any]:
        """Yield results that are next in order."""
        while self._handed in self._done:
            results = self._done.pop(self._handed)
            self._handed += len(results)
            yield from results

    @property
    def are_over(self) -> bool:
        """Whether every result was handed over."""
        return self._handed >= len(self._items)
