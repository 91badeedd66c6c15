"""Chips that miss a required score, as an event that splitting can walk towards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cimrobust.cluster.executor import Executor, Threads
from cimrobust.data.failure import FailureScore
from cimrobust.engine.latent import LatentChips, num_latents
from cimrobust.errors import UsageError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.montecarlo.rare_failures import Probability, pool
from cimrobust.montecarlo.splitting import Point, Repeat, Splitting, split

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

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
    runs: tuple[Repeat, ...]
    found: Probability


@dataclass(frozen=True)
class ScoreLatents:
    """The task of scoring chips by their latents: 0 or less where one misses a score.

    Attributes:
        below: The score.
    """

    below: float

    def on(self, subject: Subject) -> Callable[[Point], float]:
        """Return what scores the chip of latents, from many threads at once."""
        runtime = subject.runtime
        chips = LatentChips(subject.placement, as_levels=runtime.converters is not None)
        score = FailureScore(runtime.task, self.below)
        return partial(_scored, runtime, chips, score)


def rare_failures(
    subject: Subject,
    run: Run,
    *,
    below: float,
    settings: Splitting,
    repeats: int = 2,
    parts: FinishedParts = NOTHING_KEPT,
    executor: Executor | None = None,
) -> RareFailures:
    """Estimate how likely a chip is that misses a score on these samples.

    Args:
        subject: The network with its data, and the devices that are drawn.
        run: How to compute; as many chips as it has workers are evaluated at the same time.
        below: Score that chips have to reach.
        settings: Of splitting; the budget is that of one repeat.
        repeats: Independent repeats, at least 1; their disagreement widens the interval.
        parts: Where finished repeats are kept and taken from; none changes the result.
        executor: Where chips are moved and scored; None: in the threads of this process.

    Raises:
        UsageError: The devices, the task or the settings do not allow it.
        CimrobustError: A worker refuses to work, or the cluster is gone.
    """
    settings.check()
    if repeats < 1:
        raise UsageError(
            f"number of repeats must be at least 1, got {repeats}; two show whether they agree"
        )
    runtime, progress = subject.runtime, run.progress
    score = FailureScore(runtime.task, below)
    size = num_latents(subject.placement)
    _check_memory(size, settings.particles)
    place_to_work = executor or Threads(subject, run.workers)
    own = parts.within("rare", below, settings)
    runs = []
    for repeat in range(repeats):
        progress.start(f"Rare failures, repeat {repeat + 1}", settings.budget)
        make = partial(
            split,
            ScoreLatents(below),
            size,
            settings,
            run,
            repeat=repeat,
            executor=place_to_work,
        )
        runs.append(own.recall(f"repeat-{repeat}", Repeat, make))
        progress.finish()
    return RareFailures(
        below=below,
        num_wrong=score.num_wrong,
        num_decisions=runtime.task.num_decisions,
        num_devices=size,
        settings=settings,
        seed=run.seed,
        runs=tuple(runs),
        found=pool(runs),
    )


def _scored(runtime: Runtime, chips: LatentChips, score: FailureScore, latents: Point) -> float:
    return score(runtime.outputs(chips.program(latents)))


def _check_memory(num_devices: int, particles: int) -> None:
    needed = 4 * num_devices * particles
    if needed > _MOST_BYTES:
        raise UsageError(
            f"population must fit in {_MOST_BYTES / 2**30:.0f} GiB, got {particles} chips of"
            f" {num_devices} devices, {needed / 2**30:.1f} GiB (option --particles); use at most"
            f" {_MOST_BYTES // (4 * num_devices)}"
        )
