"""A limit on the time of one run of a network.

A file may ask for work without end, and a deviated weight may keep a loop from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import onnxruntime as ort

from cimrobust.errors import ModelNotCoveredError

#: Seconds that one run of a network on one batch may take, unless said otherwise.
DEFAULT_TIME_LIMIT = 600.0

_TICK = 0.25


class _Watchdog:
    """Tells runs that take too long to end.

    One thread looks after all of them, so that a run costs next to nothing.
    """

    def __init__(self) -> None:
        self.limit = DEFAULT_TIME_LIMIT
        self._lock = threading.Lock()
        self._running: dict[int, tuple[float, ort.RunOptions]] = {}
        self._thread: threading.Thread | None = None

    def enter(self, options: ort.RunOptions) -> None:
        """Start to watch a run."""
        with self._lock:
            self._running[id(options)] = (time.monotonic() + self.limit, options)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._watch, name="cimrobust-watchdog", daemon=True
                )
                self._thread.start()

    def leave(self, options: ort.RunOptions) -> None:
        """Stop to watch a run."""
        with self._lock:
            self._running.pop(id(options), None)

    def _watch(self) -> None:
        idle = 0
        while idle < 40:  # ends some seconds after the last run
            time.sleep(_TICK)
            now = time.monotonic()
            with self._lock:
                idle = 0 if self._running else idle + 1
                for deadline, options in self._running.values():
                    if now > deadline:
                        options.terminate = True
                if idle >= 40:
                    self._thread = None


_watchdog = _Watchdog()


@contextmanager
def limited_run() -> Iterator[ort.RunOptions]:
    """Yield the options of one run, which ends with an error where it takes longer than the limit.

    Raises:
        ModelNotCoveredError: It did.
    """
    options = ort.RunOptions()
    _watchdog.enter(options)
    try:
        yield options
    except Exception as err:
        if options.terminate:
            raise ModelNotCoveredError(
                f"model must run on one batch within {_watchdog.limit:g} seconds, got none of its"
                " outputs in that time; it repeats work without end, or give it more time"
                " (--time-limit)"
            ) from err
        raise
    finally:
        _watchdog.leave(options)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Give every run of a network another limit than `DEFAULT_TIME_LIMIT` for a while.

    The limit holds in the whole process.
    """
    before, _watchdog.limit = _watchdog.limit, seconds
    try:
        yield
    finally:
        _watchdog.limit = before


def set_time_limit(seconds: float) -> None:
    """Give every run of this process another limit, for as long as it lives: a worker's."""
    _watchdog.limit = seconds


def current_time_limit() -> float:
    """Return the seconds that one run may take."""
    return _watchdog.limit
