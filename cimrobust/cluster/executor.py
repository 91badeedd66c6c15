"""Where work is done: a task is a value, so that it can be sent.

A task is a frozen dataclass that is defined in a module of this package. Its class is the name by
which another process knows it, its fields are plain arguments. What it needs beside them is the
subject, which every process opens for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from cimrobust.engine.parallel import map_ordered

if TYPE_CHECKING:
    # A worker imports what computes when it opens a subject, and not to be told that it may not.
    from cimrobust.engine.subject import Subject

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


@runtime_checkable
class Task(Protocol[Item_contra, Result_co]):
    """What is done with every item."""

    def on(self, subject: Subject) -> Callable[[Item_contra], Result_co]:
        """Return what makes the result of one item, from many threads at once.

        A result is a function of the subject, the task and the item alone.
        """


@runtime_checkable
class Executor(Protocol):
    """Where work is done."""

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order; closing it ends the work."""


class Threads:
    """The threads of this process.

    What does the task of before is kept, as workers keep theirs: one that is mapped level after
    level is made ready once.
    """

    def __init__(self, subject: Subject, workers: int) -> None:
        """Name what is examined, and how many threads do it."""
        self._subject, self._workers = subject, workers
        self._task: Task[Any, Any] | None = None
        self._function: Callable[[Any], Any] | None = None

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order."""
        if self._function is None or self._task is not task:
            self._task, self._function = task, task.on(self._subject)
        yield from map_ordered(self._function, items, workers=self._workers)


@dataclass(frozen=True)
class ChangedTask(Generic[Item, Result]):
    """The same task on another subject.

    Attributes:
        task: The task.
        change: Makes the other subject of the one that is open; can be sent, as a task can.
    """

    task: Task[Item, Result]
    change: Callable[[Subject], Subject]

    def on(self, subject: Subject) -> Callable[[Item], Result]:
        """Return what makes the result of one item."""
        return self.task.on(self.change(subject))


@dataclass(frozen=True)
class ChangedExecutor:
    """Workers that have opened one subject, for what is made of it.

    Attributes:
        executor: The workers.
        change: As in `ChangedTask`.
    """

    executor: Executor
    change: Callable[[Subject], Subject]

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order; closing it ends the work."""
        return self.executor.map_ordered(ChangedTask(task, self.change), items)
