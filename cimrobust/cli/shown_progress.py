"""How a command shows how far it is, as `--progress` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich import progress as rich_progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cimrobust.cli.options import progress_kind
from cimrobust.cli.timed_progress import TimedProgress, tell_json, tell_line
from cimrobust.progress import NullProgress, Progress


def is_terminal() -> bool:
    """Tell whether stderr is a terminal that bars can be drawn on."""
    return Console(stderr=True).is_terminal


class TerminalProgress:
    """Draws one bar for each piece of work; use as a context manager."""

    def __init__(self) -> None:
        self._bars = rich_progress.Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True, force_terminal=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop drawing and leave the bars on the screen."""
        self._bars.stop()

    def start(self, name: str, total: int) -> None:
        """Begin a bar of `total` steps."""
        self.finish()
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar on."""
        if self._task is not None:
            if note:
                self._bars.update(self._task, note=note)
            self._bars.advance(self._task, steps)

    def finish(self) -> None:
        """Fill the bar that was begun last."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total
            self._bars.update(self._task, completed=total)
            self._task = None


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show the progress of the command that is running; nothing of it goes to stdout."""
    kind = progress_kind(click.get_current_context())
    if kind == "auto":
        kind = "bar" if is_terminal() else "lines"
    if kind == "none":
        yield NullProgress()
    elif kind == "bar":
        with TerminalProgress() as bars:
            yield bars
    else:
        with TimedProgress(tell_json if kind == "json" else tell_line) as lines:
            yield lines
