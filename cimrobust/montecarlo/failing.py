"""Chips that miss a required score, as an event that splitting can walk towards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from cimrobust.data.task import Task
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.rare import Probability, pool
from cimrobust.montecarlo.splitting import Run, Splitting, split
from cimrobust.progress import Progress

_MOST_BYTES = 8 * 2**30
# Converters round margins, so that chips may tie at the w-th: then the mean of the smallest 4 w decides, far below any difference between margins in float32.
_NEIGHBOURS = 4
_TIE_BREAK = 1e-9
_TINY = float(np.nextafter(0.0, 1.0))


@dataclass(frozen=True)
class RareFailures:
    """How likely a chip is that misses a score.

    Attributes:
        below: The score.
        num_wrong: Wrong decisions that make a chip miss it; None for regression.
        num_decisions: Decisions scored.
        num_devices: Devices of a chip.
        settings: Of splitting.
        seed: Seed of the run.
        runs: Independent repeats.
        found: What they say together.
    """

    below: float
    num_wrong: int | None
    num_decisions: int
    num_devices: int
    settings: Splitting
    seed: int
    runs: tuple[Run, ...]
    found: Probability


class FailureScore:
    """A number that is 0 or less exactly if a chip misses a score, and falls as it comes nearer to that.

    An accuracy is missed exactly if at least w decisions are wrong, and they are exactly if the w-th smallest margin is not positive; so the score is that margin, which has no plateaus
    where the accuracy has. For an error it is the requirement minus the error.

    Attributes:
        num_wrong: w; None for regression.
    """

    def __init__(self, task: Task, below: float) -> None:
        """Prepare the score.

        Args:
            task: Reads and judges outputs.
            below: Score that chips have to reach; an error they may not exceed.

        Raises:
            UsageError: The output is the decision itself, so there is no margin; or no chip can miss the score.
        """
        if task.decision.read == "label":
            raise UsageError(
                'rare events need an output with scores of classes, got one with the decision itself ([decision] read = "label"); export the network without its last ArgMax'
            )
        self._task, self._below = task, below
        self.num_wrong = None if task.is_regression else wrong_needed(int(task.labels.size), below)

    def __call__(self, output: np.ndarray) -> float:
        """Return the score of a chip from its decision output on all samples."""
        if self.num_wrong is None:
            score = self._below - self._task.score(output).value
            return score if score != 0.0 else _TINY  # an error that equals the requirement is no miss
        lowest = np.sort(self.margins(output))[: _NEIGHBOURS * self.num_wrong]
        margin, others = float(lowest[self.num_wrong - 1]), lowest[np.isfinite(lowest)]
        moved = margin + _TIE_BREAK * float(others.mean()) if others.size else margin
        return max(moved, _TINY) if margin > 0.0 else min(moved, 0.0)

    def margins(self, output: np.ndarray) -> np.ndarray:
        """Return the margin of every decision, float64; positive exactly where the decision is right."""
        task = self._task
        right = task.right(output).ravel()
        values = np.asarray(output, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            raw = _threshold_margins(values, task) if task.axis is None else _class_margins(values, task)
        # A tie goes to the class that is first; an output that is not finite is wrong.
        return np.where(right, np.maximum(raw, _TINY), np.where(np.isfinite(raw), np.minimum(raw, 0.0), -np.inf))


def wrong_needed(num_decisions: int, below: float) -> int:
    """Return how many wrong decisions make an accuracy smaller than required; compared as everywhere, count over number in float64.

    Raises:
        UsageError: No number of them does.
    """
    missing = np.flatnonzero(np.arange(num_decisions, -1, -1) / num_decisions < below)
    if missing.size == 0:
        raise UsageError(f"accuracy that a chip may miss must be more than 0, got {below} (option --below); give a fraction such as 0.9")
    if missing[0] == 0:
        raise UsageError(f"accuracy that a chip may miss must be at most 1, got {below} (option --below); give a fraction such as 0.9")
    return int(missing[0])


def rare_failures(
    runtime: Runtime,
    placement: Placement,
    *,
    below: float,
    settings: Splitting,
    repeats: int = 2,
    seed: int = 0,
    workers: int = 1,
    progress: Progress,
) -> RareFailures:
    """Estimate how likely a chip is that misses a score on these samples.

    Args:
        runtime: The network and its data.
        placement: The devices that are drawn.
        below: Score that chips have to reach.
        settings: Of splitting; the budget is that of one repeat.
        repeats: Independent repeats, at least 1; their disagreement widens the interval.
        seed: Seed of the run.
        workers: Chips evaluated at the same time; no result depends on it.
        progress: Told of every chip.

    Raises:
        UsageError: The devices, the task or the settings do not allow it.
    """
    settings.check()
    if repeats < 1:
        raise UsageError(f"number of repeats must be at least 1, got {repeats}; two show whether they agree")
    score = FailureScore(runtime.task, below)
    chips = LatentChips(placement, as_levels=runtime.converters is not None)
    _check_memory(chips.size, settings.particles)
    runs = []
    for repeat in range(repeats):
        progress.start(f"Rare failures, repeat {repeat + 1}", settings.budget)
        evaluate = partial(_evaluate, runtime, chips, score)
        runs.append(split(evaluate, chips.size, settings, seed=seed, repeat=repeat, workers=workers, progress=progress))
        progress.finish()
    return RareFailures(
        below=below,
        num_wrong=score.num_wrong,
        num_decisions=int(runtime.task.labels.size),
        num_devices=chips.size,
        settings=settings,
        seed=seed,
        runs=tuple(runs),
        found=pool(runs),
    )


def _evaluate(runtime: Runtime, chips: LatentChips, score: FailureScore, latents: np.ndarray) -> float:
    return score(runtime.outputs(chips.program(latents)))


def _check_memory(num_devices: int, particles: int) -> None:
    needed = 4 * num_devices * particles
    if needed > _MOST_BYTES:
        raise UsageError(
            f"population must fit in {_MOST_BYTES / 2**30:.0f} GiB, got {particles} chips of {num_devices} devices, {needed / 2**30:.1f} GiB "
            f"(option --particles); use at most {_MOST_BYTES // (4 * num_devices)}"
        )


def _class_margins(values: np.ndarray, task: Task) -> np.ndarray:
    """Return the score of the labelled class minus the best other one."""
    assert task.axis is not None
    rows = np.moveaxis(values, task.axis, -1).reshape(-1, values.shape[task.axis])
    rows = -rows if task.decision.read == "argmin" else rows
    labels = task.labels.ravel()[:, None]
    own = np.take_along_axis(rows, labels, axis=1)[:, 0]
    others = rows.copy()
    np.put_along_axis(others, labels, -np.inf, axis=1)
    return np.where(np.isfinite(rows).all(axis=1), own - others.max(axis=1), -np.inf)


def _threshold_margins(values: np.ndarray, task: Task) -> np.ndarray:
    distance = values.reshape(-1) - float(task.decision.threshold or 0.0)
    return np.where(task.labels.ravel() == 1, distance, -distance)
