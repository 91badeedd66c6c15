"""Chips that miss a required score, as an event that splitting can walk towards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32

from cimrobust.data.failure import FailureScore
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.rare_failures import Probability, pool
from cimrobust.montecarlo.splitting import Run, Splitting, split
from cimrobust.progress import Progress

_MOST_BYTES = 8 * 2**30


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
        raise UsageError(
            f"number of repeats must be at least 1, got {repeats}; two show whether they agree"
        )
    score = FailureScore(runtime.task, below)
    chips = LatentChips(placement, as_levels=runtime.converters is not None)
    _check_memory(chips.size, settings.particles)
    runs = []
    for repeat in range(repeats):
        progress.start(f"Rare failures, repeat {repeat + 1}", settings.budget)
        evaluate = partial(_evaluate, runtime, chips, score)
        runs.append(
            split(
                evaluate,
                chips.size,
                settings,
                seed=seed,
                repeat=repeat,
                workers=workers,
                progress=progress,
            )
        )
        progress.finish()
    return RareFailures(
        below=below,
        num_wrong=score.num_wrong,
        num_decisions=runtime.task.num_decisions,
        num_devices=chips.size,
        settings=settings,
        seed=seed,
        runs=tuple(runs),
        found=pool(runs),
    )


def _evaluate(
    runtime: Runtime,
    chips: LatentChips,
    score: FailureScore,
    latents: Float32[np.ndarray, "devices"],
) -> float:
    return score(runtime.outputs(chips.program(latents)))


def _check_memory(num_devices: int, particles: int) -> None:
    needed = 4 * num_devices * particles
    if needed > _MOST_BYTES:
        raise UsageError(
            f"population must fit in {_MOST_BYTES / 2**30:.0f} GiB, got {particles} chips of"
            f" {num_devices} devices, {needed / 2**30:.1f} GiB (option --particles); use at most"
            f" {_MOST_BYTES // (4 * num_devices)}"
        )
