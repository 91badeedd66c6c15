"""Scores of drawn chips: by the twin on a device, and by onnxruntime beside it.

Many chips are drawn and scored at once; what is finished is kept in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from cimrobust.data.decision import Score
from cimrobust.engine.parallel import map_ordered
from cimrobust.twin_trials.near_ties import (
    closeness,
    differing_decisions,
    largest_difference,
    largest_score,
)
from cimrobust.twin_trials.samples_again import run_again

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.finished_parts import FinishedParts
    from cimrobust.run import Run
    from cimrobust.twin_trials.twin_outputs import TwinOutputs

# Chips of one finished part: on the device, and on the processor, where each takes longer.
_DEVICE_PART, _CONFIRMED_PART = 64, 16

Chip = dict[str, Shaped[np.ndarray, "..."]]
T = TypeVar("T")


@dataclass(frozen=True)
class DeviceScores:
    """What a device gave some trials.

    Attributes:
        value: Scores.
        count: Right decisions.
        nearest: How close the closest decision is to a tie; see `near_ties.closeness`.
    """

    value: Float64[np.ndarray, "trials"]
    count: Int64[np.ndarray, "trials"]
    nearest: Float64[np.ndarray, "trials"]


@dataclass(frozen=True)
class ConfirmedScores:
    """What onnxruntime gave some trials, on all samples or some, beside the device.

    Attributes:
        value: Scores, with the decisions of onnxruntime where it ran.
        count: Right decisions, likewise.
        difference: Largest difference of any score of the two; see `near_ties.largest_difference`.
        differing: Decisions that differ.
        samples: Samples that onnxruntime ran.
    """

    value: Float64[np.ndarray, "trials"]
    count: Int64[np.ndarray, "trials"]
    difference: Float64[np.ndarray, "trials"]
    differing: Int64[np.ndarray, "trials"]
    samples: Int64[np.ndarray, "trials"]


@dataclass(frozen=True)
class _Beside:
    """One chip of `ConfirmedScores`."""

    score: Score
    difference: float
    differing: int
    samples: int


class ChipScoring:
    """Scores trials on a device and on the processor, many at once, and keeps what is finished."""

    def __init__(self, subject: Subject, run: Run, twin: TwinOutputs, parts: FinishedParts) -> None:
        self.run = run
        self._subject, self._twin, self._parts = subject, twin, parts
        self._buffers: SimpleQueue[Chip] = SimpleQueue()

    def scored(self, num_trials: int) -> DeviceScores:
        """Return what the device gives all trials."""
        self.run.progress.start("Monte-Carlo trials", num_trials)
        blocks = []
        for start in range(0, num_trials, _DEVICE_PART):
            trials = range(start, min(start + _DEVICE_PART, num_trials))
            name = f"device-{trials.start}-{trials.stop}"
            known = self._parts.find(name, DeviceScores, partial(_check_device, len(trials)))
            if known is None:
                known = self._score(trials)
                self._parts.keep(name, known)
            else:
                self.run.progress.advance(len(trials))
            blocks.append(known)
        self.run.progress.finish()
        return DeviceScores(
            np.concatenate([block.value for block in blocks]),
            np.concatenate([block.count for block in blocks]),
            np.concatenate([block.nearest for block in blocks]),
        )

    def confirmed(
        self, trials: Int64[np.ndarray, "trials"], turn: int, *, reach: float = np.inf
    ) -> ConfirmedScores:
        """Return what onnxruntime gives some trials, beside the device.

        Args:
            trials: Which.
            turn: How often this was asked before in this run.
            reach: Only samples with a decision this close to a tie are run, and those of their
                batches; the others are decided by the device. Infinite: all are.
        """
        self.run.progress.start("Trials confirmed on the processor", trials.size)
        parts = self._parts.within(f"confirmed-{turn}", trials, reach)
        blocks = []
        for start in range(0, trials.size, _CONFIRMED_PART):
            some = trials[start : start + _CONFIRMED_PART]
            known = parts.find(str(start), ConfirmedScores, partial(_check_confirmed, some.size))
            if known is None:
                known = self._confirm(some, reach)
                parts.keep(str(start), known)
            else:
                self.run.progress.advance(some.size)
            blocks.append(known)
        self.run.progress.finish()
        return ConfirmedScores(
            *(
                np.concatenate([getattr(block, row.name) for block in blocks])
                for row in fields(ConfirmedScores)
            )
        )

    def _score(self, trials: range) -> DeviceScores:
        task = self._subject.runtime.task

        def of(chip: Chip) -> tuple[Score, float]:
            output = self._twin.of(chip)
            return task.score(output), float(closeness(task, output).min())

        rows = self._each(of, trials)
        return DeviceScores(
            np.array([score.value for score, _ in rows], dtype=np.float64),
            np.array([score.count for score, _ in rows], dtype=np.int64),
            np.array([nearest for _, nearest in rows], dtype=np.float64),
        )

    def _confirm(self, trials: Int64[np.ndarray, "trials"], reach: float) -> ConfirmedScores:
        rows = self._each(partial(self._beside, reach), trials.tolist())
        return ConfirmedScores(
            np.array([row.score.value for row in rows], dtype=np.float64),
            np.array([row.score.count for row in rows], dtype=np.int64),
            np.array([row.difference for row in rows], dtype=np.float64),
            np.array([row.differing for row in rows], dtype=np.int64),
            np.array([row.samples for row in rows], dtype=np.int64),
        )

    def _beside(self, reach: float, chip: Chip) -> _Beside:
        """Run a chip on the device, and in onnxruntime what is close to a tie."""
        runtime, task = self._subject.runtime, self._subject.runtime.task
        output = self._twin.of(chip)
        wanted = closeness(task, output) <= reach
        if not wanted.any():
            return _Beside(task.score(output), 0.0, 0, 0)
        chosen, expected = run_again(runtime, chip, wanted)
        part, before = replace(task, labels=task.labels[chosen]), output[chosen]
        merged = output.astype(expected.dtype)
        merged[chosen] = expected
        return _Beside(
            task.score(merged),
            largest_difference(part, before, expected, scale=largest_score(task, output)),
            differing_decisions(part, before, expected),
            chosen.size,
        )

    def _each(self, of: Callable[[Chip], T], trials: Sequence[int]) -> list[T]:
        """Return what a function gives the chip of every trial; chips are drawn side by side."""
        engine, placement = self._subject.runtime.engine, self._subject.placement

        def done(trial: int) -> T:
            try:
                chip = self._buffers.get_nowait()
            except Empty:
                chip = engine.buffers(placement)
            try:
                return of(engine.draw(placement, seed=self.run.seed, trial=trial, out=chip))
            finally:
                self._buffers.put(chip)

        found = []
        for result in map_ordered(done, trials, workers=self.run.workers):
            found.append(result)
            self.run.progress.advance()
        return found


def _check_device(count: int, part: DeviceScores) -> None:
    if not part.value.shape == part.count.shape == part.nearest.shape == (count,):
        raise ValueError("it is of other trials")


def _check_confirmed(count: int, part: ConfirmedScores) -> None:
    shapes = {getattr(part, row.name).shape for row in fields(ConfirmedScores)}
    if shapes != {(count,)}:
        raise ValueError("it is of other trials")
