"""The workers of a sweep at one of its tolerances."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from cimrobust.attack.tolerances import at_tolerance
from cimrobust.cluster.executor import Executor, Item, Result, Task

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject


@dataclass(frozen=True)
class TaskAt(Generic[Item, Result]):
    """The same task on the same network at another tolerance.

    Attributes:
        task: The task.
        tolerance: Fraction of the full conductance range.
    """

    task: Task[Item, Result]
    tolerance: float

    def on(self, subject: Subject) -> Callable[[Item], Result]:
        """Return what makes the result of one item."""
        return self.task.on(at_tolerance(subject, self.tolerance))


@dataclass(frozen=True)
class ExecutorAt:
    """Workers that have opened the network at the profile's own tolerance, at another one.

    Attributes:
        executor: The workers.
        tolerance: Fraction of the full conductance range.
    """

    executor: Executor
    tolerance: float

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order; closing it ends the work."""
        return self.executor.map_ordered(TaskAt(task, self.tolerance), items)
