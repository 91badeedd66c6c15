"""How to compute: what a stage needs to know beside what it examines."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Annotated

from cimrobust.option import Option
from cimrobust.progress import NullProgress, Progress

#: How much to search, from little to much.
EFFORTS = ("quick", "standard", "thorough")
DEVICE_TYPES = ("cpu", "cuda")


@dataclass(frozen=True)
class Run:
    """How to compute.

    `workers`, `memory`, `time_limit` and `progress` change no result. Another `device_type` rounds
    gradients otherwise, so a search may find another chip there; what it is reported to score is
    computed the same way.
    """

    seed: Annotated[int, Option(least=0)] = 0
    """Seed of every random number."""
    workers: Annotated[int, Option(is_stated=False)] = 1
    """Threads; results do not depend on it. Default: all processors."""
    effort: Annotated[str, Option(choices=EFFORTS)] = "standard"
    """How much to search, and how many chips to draw."""
    device_type: Annotated[str, Option(choices=DEVICE_TYPES)] = "cpu"
    """Where the search computes gradients (every score is onnxruntime's, on the processor)."""
    passes: Annotated[int | None, Option(is_stated_by_default=False)] = None
    """Forward-backward passes of the search for the worst chip at most: its members share fewer.
    Default: 99, 595 or 3341 by effort."""
    attack_samples: Annotated[int | None, Option(is_stated_by_default=False)] = None
    """Samples that the search makes chips on; all are scored. Default: by effort and the size of
    the network, at most 1000."""
    memory: Annotated[str | None, Option(metavar="SIZE", is_stated=False)] = None
    """Memory that this process may take, like 6G: fewer threads, then smaller pieces of the attack
    set; where a bound does not fit, there is none, with a reason. Default: 60 % of what is free."""
    time_limit: Annotated[float | None, Option(metavar="SECONDS", above=0, is_stated=False)] = None
    """Longest that one run of the model on one batch may take, against loops without end. Default:
    600."""
    progress: Annotated[Progress, Option(is_option=False, is_stated=False)] = field(
        default_factory=NullProgress
    )
    """Told how far the work is."""

    def at_effort(self, effort: str) -> Run:
        """Return the same at another effort, whose search has its own number of passes."""
        return replace(self, effort=effort, passes=self.passes if effort == self.effort else None)


def available_processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
