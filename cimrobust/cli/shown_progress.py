"""How a command shows how far it is, as `--progress` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from cimrobust.cli.options import progress_kind
from cimrobust.cli.progress_bars import TerminalProgress, is_terminal
from cimrobust.cli.timed_progress import TimedProgress, tell_json, tell_line
from cimrobust.progress import NullProgress, Progress


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
