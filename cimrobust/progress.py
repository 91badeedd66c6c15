"""How long work reports that it moves on.

The command line draws it, everything below only calls it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receives the steps of one piece of work after the other."""

    def start(self, name: str, total: int) -> None:
        """Begin a piece of work of `total` steps; ends the one before."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report that `steps` more steps are done, with a short state such as the best score."""

    def finish(self) -> None:
        """End the piece of work that was begun last."""


class NullProgress:
    """Reports to nobody."""

    def start(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""
