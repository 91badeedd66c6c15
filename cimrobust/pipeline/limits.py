"""Memory and time that a call may take, held to from its beginning to its end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from cimrobust.available_memory import memory_limit, memory_size
from cimrobust.engine.watchdog import time_limit
from cimrobust.settings.gathered import gather

if TYPE_CHECKING:
    from cimrobust.run import Run
    from cimrobust.settings.commands import Command

P = ParamSpec("P")
ReturnT = TypeVar("ReturnT")


@contextmanager
def limited(run: Run) -> Iterator[None]:
    """Hold this process to the memory and the time that a run may take, for a while.

    Raises:
        UsageError: The memory is no size.
    """
    with ExitStack() as limits:
        if run.memory is not None:
            limits.enter_context(memory_limit(memory_size(run.memory)))
        if run.time_limit is not None:
            limits.enter_context(time_limit(run.time_limit))
        yield


def keeps_limits(
    command: Command,
) -> Callable[[Callable[P, ReturnT]], Callable[P, ReturnT]]:
    """Return a decorator for the function of a command: it works within `memory`, `time_limit`.

    They are found among keywords, in ``run`` and in ``settings``, as `gather` does.
    """

    def kept(function: Callable[P, ReturnT]) -> Callable[P, ReturnT]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> ReturnT:
            options = {name: value for name, value in kwargs.items() if name in command.settings}
            run = kwargs.get("run")
            given = gather(command, kwargs.get("settings"), run, options)  # type: ignore[arg-type]
            with limited(given.run()):
                return function(*args, **kwargs)

        return called

    return kept
