"""Progress where nobody looks at a screen: told when a stage begins and ends, and once a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import click

from cimrobust.certificate.models.printed_progress import ProgressOutput
from cimrobust.input_file import printable

#: Seconds between two lines about one stage.
INTERVAL = 60.0

# How often the thread looks at the clock, in seconds.
_LOOK = 5.0

# Steps that a pace is taken from: of one alone the next may be of another kind, and the time that
# is left grows while that one runs.
_FEWEST = 2

Clock = Callable[[], float]
Tell = Callable[[ProgressOutput], None]


@dataclass
class _Stage:
    """A piece of work, and when its first steps were done."""

    name: str
    total: int
    began: float
    done: int = 0
    note: str = ""
    first: tuple[float, int] | None = None

    def seconds_left(self, now: float) -> float | None:
        """Return what is left at the pace so far; None where a single step tells it.

        Counted from the first report on: steps that an earlier run did are reported at once.
        """
        start, before = self.first or (self.began, 0)
        if self.done == before:
            start, before = self.began, 0
        steps = self.done - before
        if steps < _FEWEST or now <= start:
            return None
        return max(0.0, (self.total - self.done) * (now - start) / steps)


class TimedProgress:
    """Tells how far the work is; use as a context manager.

    A thread looks at the clock, so that a stage whose steps take long is told of too.
    """

    def __init__(self, tell: Tell, *, clock: Clock = time.monotonic) -> None:
        """Begin to count the seconds.

        Args:
            tell: Gets every event; where it cannot write, nobody is told any more.
            clock: Seconds, from any start.
        """
        self._tell = tell
        self._clock = clock
        self._began = self._told = clock()
        self._stage: _Stage | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TimedProgress:
        """Start to look at the clock."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop; a stage that failed is not told to have ended."""
        self._over.set()
        self._thread.join()

    def start(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps; ends the one before."""
        self.finish()
        with self._lock:
            self._stage = _Stage(name, total, self._clock())
            self._say("begin", self._stage)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps that are done."""
        with self._lock:
            stage = self._stage
            if stage is None:
                return
            stage.done, stage.note = stage.done + steps, note or stage.note
            stage.first = stage.first or (self._clock(), stage.done)
        self.look()

    def finish(self) -> None:
        """End the stage that was begun last."""
        with self._lock:
            if self._stage is not None:
                self._say("end", self._stage)
            self._stage = None

    def look(self) -> None:
        """Tell where the stage is, if it is a minute since the last time."""
        with self._lock:
            if self._stage is not None and self._clock() - self._told >= INTERVAL:
                self._say("running", self._stage)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            self.look()

    def _say(self, event: Literal["begin", "running", "end"], stage: _Stage) -> None:
        now = self._told = self._clock()
        left = stage.seconds_left(now) if event == "running" else None
        said = ProgressOutput(
            event=event,
            time=round(now - self._began, 3),
            stage=printable(stage.name),
            done=stage.done,
            total=stage.total,
            seconds_left=None if left is None else round(left, 3),
            note=printable(stage.note),
        )
        try:
            self._tell(said)
        except (OSError, ValueError):  # stderr is gone or full; the work goes on
            self._tell = _nobody


def _nobody(said: ProgressOutput) -> None:
    """Tell nobody."""


def tell_line(said: ProgressOutput) -> None:
    """Print a line for people on stderr."""
    click.echo(as_line(said), err=True)


def tell_json(said: ProgressOutput) -> None:
    """Print a line of JSON on stderr."""
    click.echo(said.model_dump_json(), err=True)


def as_line(said: ProgressOutput) -> str:
    """Return an event as a line for people."""
    note = f" ({said.note})" if said.note else ""
    what = f"{said.done} of {said.total}"
    if said.event == "begin":
        what = f"begins, {said.total} {'step' if said.total == 1 else 'steps'}"
    elif said.event == "end":
        what = f"ended, {what}"
    elif said.seconds_left is not None:
        what = f"{what}, about {_hours(said.seconds_left)} left"
    return f"[{_hours(said.time)}] {said.stage}: {what}{note}"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
