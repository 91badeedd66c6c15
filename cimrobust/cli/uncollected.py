"""Imports without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage inside; for imports, which make many objects and hardly any garbage.

    Python would look through all of them again and again, a tenth of what `gate` takes. The first
    time in a process they are set aside for good: a command keeps its modules to its end, and
    Python would look through them during the command and, several times, at its end.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Once: what is garbage by now is set aside too, and a process may run many commands.
        if gc.get_freeze_count() == 0:
            gc.freeze()
        if was_enabled:
            gc.enable()
