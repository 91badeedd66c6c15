"""The other side: a process that opens the subject for itself and works on blocks of items.

What is sent comes as bytes, so that versions are compared before anything is read with the wrong
ones.
"""

from __future__ import annotations

import os
import pickle
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from cimrobust.cluster.workplace import workplace
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Task
    from cimrobust.engine.subject import Subject


class Recipe(Protocol):
    """How a worker opens what is examined; a value that can be pickled."""

    def open(self) -> Subject:
        """Open it.

        Raises:
            CimrobustError: It is not what the coordinator has opened.
        """


@dataclass(frozen=True)
class Site:
    """What every worker of one run is given.

    Attributes:
        workplace: Versions and instruction sets of the coordinator.
        recipe: A pickled `Recipe`.
        key: Tells it apart from the sites of other runs.
    """

    workplace: Mapping[str, str]
    recipe: bytes
    key: str

    @classmethod
    def of(cls, recipe: Recipe, key: str) -> Site:
        """Return the site of a run of this process; `key` is a digest of what it depends on."""
        return cls(workplace(), pickle.dumps(recipe), key)


@dataclass(frozen=True)
class Done:
    """A block that was worked on.

    Attributes:
        results: Result of every item.
        seconds: What it took, opening not counted.
    """

    results: list[Any]
    seconds: float


def do_block(
    coordinator: Mapping[str, str], recipe: bytes, key: str, task: bytes, items: Sequence[Any]
) -> Done:
    """Work on a block of items.

    Everything is plain, so that a worker of another version gets as far as the comparison.

    Args:
        coordinator: Versions and instruction sets of the coordinator.
        recipe: A pickled `Recipe`.
        key: Tells it apart from those of other runs.
        task: A pickled `Task`.
        items: Its items.

    Raises:
        UsageError: Versions or instruction sets are not the coordinator's.
    """
    check_workplace(coordinator)
    function = _open_subject.function(recipe, key, task)
    began = time.perf_counter()
    return Done([function(item) for item in items], time.perf_counter() - began)


def check_workplace(coordinator: Mapping[str, str]) -> None:
    """Raise UsageError unless this process computes with what the coordinator does."""
    here = workplace()
    differing = [
        f"{here.get(name, 'none')} instead of {value}"
        for name, value in coordinator.items()
        if here.get(name) != value
    ]
    if differing:
        raise UsageError(
            "worker must have the versions and instruction sets of the coordinator, got"
            f" {'; '.join(differing)} (--cluster, worker {platform.node()}, process"
            f" {os.getpid()}); install the same versions, and use processors of one kind"
        )


class _OpenSubject:
    """What this process has opened last; one subject at a time, because they are large."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: str | None = None
        self._subject: Subject | None = None
        self._functions: dict[bytes, Callable[[Any], Any]] = {}

    def function(self, recipe: bytes, key: str, task: bytes) -> Callable[[Any], Any]:
        """Return what does a task, opening the subject where it is not open."""
        with self._lock:
            if self._key != key or self._subject is None:
                self._key, self._subject, self._functions = None, None, {}
                opener: Recipe = pickle.loads(recipe)
                self._subject, self._key = opener.open(), key
            if task not in self._functions:
                known: Task[Any, Any] = pickle.loads(task)
                self._functions = {task: known.on(self._subject)}
            return self._functions[task]


_open_subject = _OpenSubject()
