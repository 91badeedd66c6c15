"""The workers of a network with some of its layers protected."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from cimrobust.cluster.executor import Executor, Item, Result, Task
from cimrobust.engine.subject import Subject

if TYPE_CHECKING:
    from cimrobust.diagnose.protection import Protection


@dataclass(frozen=True)
class ProtectedTask(Generic[Item, Result]):
    """The same task on the same network with some layers protected.

    Attributes:
        task: The task.
        protection: How layers are protected.
        chosen: Initializers of the protected layers.
    """

    task: Task[Item, Result]
    protection: Protection
    chosen: tuple[str, ...]

    def on(self, subject: Subject) -> Callable[[Item], Result]:
        """Return what makes the result of one item."""
        placement = self.protection.placement(
            subject.placement,
            subject.scan,
            self.chosen,
            is_float=subject.runtime.converters is None,
        )
        return self.task.on(Subject(subject.runtime, placement))


@dataclass(frozen=True)
class ProtectedExecutor:
    """Workers that have opened the network without protection, for it with some layers protected.

    Attributes:
        executor: The workers.
        protection: How layers are protected.
        chosen: Initializers of the protected layers.
    """

    executor: Executor
    protection: Protection
    chosen: tuple[str, ...]

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order; closing it ends the work."""
        made = ProtectedTask(task, self.protection, self.chosen)
        return self.executor.map_ordered(made, items)
