"""Splitting of events that are functions of a point, without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cimrobust.cluster.executor import Threads
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.splitting import Repeat, Splitting, split
from cimrobust.run import Run

Score = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class ScoreBy:
    """The task of scoring points by a function."""

    score: Score

    def on(self, subject: Subject) -> Score:
        return self.score


def split_by(score: Score, size: int, settings: Splitting, run: Run, *, repeat: int) -> Repeat:
    """Run one population in the threads of this process; the subject is empty."""
    threads = Threads(Subject.__new__(Subject), run.workers)
    return split(ScoreBy(score), size, settings, run, repeat=repeat, executor=threads)
