"""Which effect costs what: the score with every effect of a profile added in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.cluster.executor import Executor, Threads
from cimrobust.device.profile import DeviceProfile
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.mapping.place import place
from cimrobust.montecarlo.chip_memory import within_memory
from cimrobust.montecarlo.montecarlo_records import Effect, device_effects
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.mapping.placement import Placement
    from cimrobust.run import Run


@dataclass(frozen=True)
class EffectTable:
    """Score with every effect added in turn.

    Attributes:
        rows: One effect more in every row; none: see `reason`.
        reason: Why there are none; empty where there are.
    """

    rows: tuple[Effect, ...]
    reason: str = ""


@dataclass(frozen=True)
class ScoredChips:
    """Scores of the chips of one row, in the order of their numbers."""

    scores: tuple[float, ...]


@dataclass(frozen=True)
class ScoreWithEffects:
    """The task of scoring chips of devices that have some of the effects of a profile.

    Its items are the numbers of chips.

    Attributes:
        seed: Seed of the run.
        profile: The subject's, with the effects that count.
    """

    seed: int
    profile: DeviceProfile

    def on(self, subject: Subject) -> Callable[[int], float]:
        """Return what scores one chip, from many threads at once."""
        own = subject.placement
        placement = own if self.profile == own.profile else place(subject.scan, self.profile)
        return partial(_score, subject.runtime, placement, self.seed)


def add_effects(
    subject: Subject,
    run: Run,
    *,
    num_chips: int,
    parts: FinishedParts = NOTHING_KEPT,
    executor: Executor | None = None,
) -> tuple[Effect, ...]:
    """Return the score with every effect added to those before it.

    First float weights, quantised weights, converters and read noise, then every effect on devices.
    The same chips are drawn for every row: a device gets the same random numbers whichever effects
    act on it.

    Args:
        subject: The network with its data, and where its layers are stored.
        run: How to compute.
        num_chips: Chips for every row that has any.
        parts: Where finished rows are kept and taken from; none changes the result.
        executor: Where chips are scored; None: in the threads of this process.
    """
    run = within_memory(run, subject.placement)
    runtime, placement, progress = subject.runtime, subject.placement, run.progress
    rows: list[Effect] = []
    for effect, value in _without_chips(runtime):
        rows.append(_effect(effect, [value], rows, num_chips=0))
    place_to_work = executor or Threads(subject, run.workers)
    stages = list(_stages(placement.profile))
    progress.start("Effects in turn", num_chips * len(stages))
    for effect, profile in stages:
        make = partial(_scores, place_to_work, ScoreWithEffects(run.seed, profile), run, num_chips)
        made = parts.within("effects", num_chips).recall(effect, ScoredChips, make)
        rows.append(_effect(effect, made.scores, rows, num_chips=num_chips))
    progress.finish()
    return tuple(rows)


def _scores(executor: Executor, task: ScoreWithEffects, run: Run, num_chips: int) -> ScoredChips:
    """Score the chips of one row."""
    scores = []
    with closing(executor.map_ordered(task, range(num_chips))) as made:
        for value in made:
            scores.append(value)
            run.progress.advance(1)
    return ScoredChips(tuple(scores))


def _without_chips(runtime: Runtime) -> Iterator[tuple[str, float]]:
    yield "float weights", runtime.clean.value
    yield "quantised weights", runtime.quantised.value
    if runtime.converters is None:
        return
    if runtime.converters.exact_reads is not None:
        yield "converters", runtime.converters.exact_reads.value
        yield "read noise", runtime.nominal.value
    else:
        yield "converters", runtime.nominal.value


def _effect(
    effect: str, scores: Sequence[float], rows: Sequence[Effect], *, num_chips: int
) -> Effect:
    """Return the row of scores with one more effect, below the rows so far."""
    mean = finite(float(np.mean(scores)))
    return Effect(
        effect=effect,
        mean=mean,
        low=min(scores),
        high=max(scores),
        chips=num_chips,
        change=mean - rows[-1].mean if rows else 0.0,
    )


def _stages(profile: DeviceProfile) -> Iterator[tuple[str, DeviceProfile]]:
    """Yield the effects on devices in turn, each with the profile that has it and those before."""
    with_these = {
        "programming": profile.with_effects(faults=False, relaxation=False, drift=False),
        "stuck devices": profile.with_effects(relaxation=False, drift=False),
        "relaxation": profile.with_effects(drift=False),
        "drift": profile,
    }
    yield from ((effect, with_these[effect]) for effect in device_effects(profile))


def _score(runtime: Runtime, placement: Placement, seed: int, trial: int) -> float:
    return runtime.score(runtime.engine.draw(placement, seed=seed, trial=trial)).value
