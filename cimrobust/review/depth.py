"""How much of a result is computed again."""

from __future__ import annotations

from dataclasses import dataclass, field

from cimrobust.progress import NullProgress, Progress

#: Trials that a replay draws again where nobody says how many.
REDRAWN = 30


@dataclass(frozen=True)
class Depth:
    """How much of a result is computed again where model and data are at hand.

    Attributes:
        redraw: Trials to draw again.
        seed: The reviewer's seed: chooses the trials, and starts the search.
        search: Effort of a search of the reviewer's own; None: none.
        rerun: Run the whole analysis again.
        workers: Threads; no result depends on it.
        progress: Told how far the work is.
    """

    redraw: int = REDRAWN
    seed: int = 0
    search: str | None = None
    rerun: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=NullProgress)
