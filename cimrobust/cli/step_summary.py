"""The file that collects the summaries of a pipeline's steps: `GITHUB_STEP_SUMMARY`."""

from __future__ import annotations

import os
from pathlib import Path

import click


def step_summary() -> Path | None:
    """Return the file that collects the summaries of a pipeline's steps; None: there is none.

    Nobody asked for it by an option, so a file that cannot be written to keeps no command from its
    result.
    """
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return None
    path = Path(named)
    place = path if path.exists() else path.parent
    if path.is_dir() or not os.access(place, os.W_OK):
        click.echo(f"warning: GITHUB_STEP_SUMMARY is not writable ({named}); no summary", err=True)
        return None
    return path


def say_where(collected: Path | None) -> None:
    """Say on stderr that a summary was appended to that file."""
    if collected is not None:
        click.echo(f"summary appended to GITHUB_STEP_SUMMARY ({collected})", err=True)
