"""How to compute: what a stage needs to know beside what it examines."""

from __future__ import annotations

from dataclasses import dataclass, field

from cimrobust.progress import NullProgress, Progress


@dataclass(frozen=True)
class Run:
    """How to compute.

    Only `seed` and `effort` change results; the others change how long they take.

    Attributes:
        seed: Seed of every random number.
        workers: Threads.
        effort: ``quick``, ``standard`` or ``thorough``.
        device_type: Where torch computes, ``cpu`` or ``cuda``.
        progress: Hears of every step.
    """

    seed: int = 0
    workers: int = 1
    effort: str = "standard"
    device_type: str = "cpu"
    progress: Progress = field(default_factory=NullProgress)
