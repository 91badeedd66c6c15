"""Where the time of a run goes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STAT = Path("/proc/self/stat")
#: Place of the start of the process behind the name in `_STAT`, in ticks since the machine began.
_START = 19
#: Seconds of starting up that are believed; more says that the clocks of the system disagree.
_MOST = 600.0


class Clock:
    """Seconds by stage.

    What lies between two stages counts as the later one's, so that the sum of all is the time since
    the clock was made.
    """

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    @classmethod
    def of_process(cls) -> Clock:
        """Return the clock of a command: `imports` is the time since its process was started."""
        clock, seconds = cls(), process_seconds()
        if seconds is not None:
            clock.stages["imports"] = seconds
        return clock

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; a second time with the same name adds to it."""
        yield
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self._last
        self._last = now


def process_seconds() -> float | None:
    """Return the seconds since this process was started; None where the system does not tell."""
    try:
        behind_name = _STAT.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        began = int(behind_name[_START]) / os.sysconf("SC_CLK_TCK")
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return seconds if 0.0 <= seconds <= _MOST else None
