"""The most probable failing chip.

Of all chips that miss a score, the one with the smallest norm of its standard normal latents.

The norm is the reliability index beta of the first-order reliability method, ``Phi(-beta)`` its
first-order probability. The search finds chips that fail in the deployed network, so the
norm reported is an upper bound of the smallest: a nearer failing chip may exist. Latents stand for
devices through the quantile functions of their distribution, so no chip tried leaves
its support.

Starts: the chip without deviation, patterns that are given (the worst chip found), the worst of
some drawn chips, and random ones. From each, HL-RF steps on a smooth stand-in with the
gradients of the torch twin, then steps that only the deployed network decides on
(`search.descent`). Without a twin: rays through the given and the drawn chips, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from cimrobust.data.failure import FailureScore
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_device import open_device
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress, Progress
from cimrobust.reliability.descent import RAY_CHIPS, Ground, Spent, polish, walk
from cimrobust.reliability.likely_chip import PLANS, Attempt, LikelySearch, Plan, ProbableChip
from cimrobust.reliability.limit_state import LimitState
from cimrobust.reliability.nearest import NearestChips
from cimrobust.reliability.proof import prove
from cimrobust.reliability.ray import Crossed, first_failing
from cimrobust.search.gradients import Opened, open_gradients
from cimrobust.search.search_budget import budget_of
from cimrobust.seeds import stream

# Spread of the random units of margins, on the scale of logarithms: other decisions come first from
# another start.
_TILT = 0.4


def most_probable(
    runtime: Runtime,
    placement: Placement,
    *,
    below: float,
    effort: str = "standard",
    seed: int = 0,
    workers: int = 1,
    known: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    progress: Progress | None = None,
    device_type: str = "cpu",
) -> LikelySearch:
    """Search for the most probable chip that misses a score on these samples.

    Args:
        runtime: The network and its data.
        placement: The devices.
        below: Score that chips have to reach; an error they may not exceed.
        effort: ``quick``, ``standard`` or ``thorough``.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        known: Patterns to start from too, by where they come from; deviations by initializer.
        progress: Told of every pass.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``.

    Raises:
        UsageError: The devices or the task do not allow it, or there is no such effort.
    """
    budget, plan = budget_of(effort), PLANS[effort]
    search = _Search(runtime, placement, below, plan, seed, workers, progress or NullProgress())
    opened = open_gradients(
        runtime, placement, budget, seed=seed, workers=workers, device=open_device(device_type)
    )
    search.progress.start("Most probable failing chip", plan.passes)
    # As in the ensemble: steps on vectors are too short to share between torch threads.
    with one_torch_thread():
        attempts = search.run(opened, known or {})
    search.progress.finish()
    chip = search.best(attempts)
    return LikelySearch(
        below=below,
        num_wrong=search.score.num_wrong,
        chips=search.chips,
        chip=chip,
        reason="" if chip is not None else _why_none(attempts),
        attempts=tuple(attempts),
        has_gradient=opened.oracle is not None,
        gradient_reason=opened.reason,
        crafting_samples=len(opened.crafting),
        spent=search.spent,
        effort=effort,
        seed=seed,
    )


class _Search:
    """One search and what it has spent."""

    def __init__(
        self,
        runtime: Runtime,
        placement: Placement,
        below: float,
        plan: Plan,
        seed: int,
        workers: int,
        progress: Progress,
    ) -> None:
        self.runtime, self.placement, self.plan, self.seed, self.workers, self.progress = (
            runtime,
            placement,
            plan,
            seed,
            workers,
            progress,
        )
        self.score = FailureScore(runtime.task, below)
        self.below = below
        self.chips = LatentChips(placement, as_levels=runtime.converters is not None)
        self.nearest = NearestChips(self.chips)
        self.spent = Spent()

    def event(self, latents: np.ndarray) -> float:
        """Ask the deployed network; 0 or less where the chip fails."""
        self.spent.evaluations += 1
        return self.score(self.runtime.outputs(self.chips.program(latents), threads=self.workers))

    def run(self, opened: Opened, known: Mapping[str, Mapping[str, np.ndarray]]) -> list[Attempt]:
        """Go through all starts."""
        zero = np.zeros(self.chips.size, dtype=np.float32)
        if self.event(zero) <= 0.0:
            return [Attempt("the median chip", zero, 0.0, 0, 1)]
        given = {origin: self._given(deviations) for origin, deviations in known.items()}
        if opened.oracle is None:
            return self._rays(given)
        ground = Ground(
            self.chips,
            self.nearest,
            opened.oracle,
            self.event,
            partial(self.progress.advance, 1),
            self.spent,
        )
        return self._descents(ground, given, len(opened.crafting))

    def best(self, attempts: list[Attempt]) -> ProbableChip | None:
        """Return the nearest chip of all attempts that passes every check.

        The nearest is not enough where rounding decides.
        """
        for attempt in sorted(
            (attempt for attempt in attempts if attempt.norm is not None),
            key=lambda attempt: attempt.norm or 0.0,
        ):
            assert attempt.latents is not None
            proof = prove(
                self.runtime,
                self.placement,
                self.chips,
                attempt.latents,
                self.score,
                workers=self.workers,
            )
            if proof is not None:
                return ProbableChip(proof.latents, proof.norm, proof, attempt.name)
        return None

    def _draw(self, number: int) -> np.ndarray:
        return stream(self.seed, "most_probable", "drawn", number).standard_normal(
            self.chips.size, dtype=np.float32
        )

    def _rays(self, given: Mapping[str, np.ndarray]) -> list[Attempt]:
        """Follow the rays through the given patterns and the worst drawn chips."""
        drawn = sorted(range(self.plan.drawn), key=self._drawn_scores().__getitem__)[
            : self.plan.rays
        ]
        starts = {f"ray through {name}": point for name, point in given.items()}
        starts |= {f"ray through drawn chip {number}": self._draw(number) for number in drawn}
        return [self._attempt(name, partial(self._ray, point)) for name, point in starts.items()]

    def _descents(
        self, ground: Ground, given: Mapping[str, np.ndarray], num_crafting: int
    ) -> list[Attempt]:
        """Descend from every start."""
        state, widest = self._state(ground, num_crafting)
        worst = int(np.argmin(self._drawn_scores()))
        zero = np.zeros(self.chips.size, dtype=np.float32)
        starts: dict[str, tuple[np.ndarray, LimitState, int]] = {
            "no deviation": (zero, state, widest)
        }
        for name, point in list(given.items())[: self.plan.given]:
            starts[name] = (point, state, widest)
        starts["no deviation, nearest decisions first"] = (zero, state, min(2, widest))
        starts[f"worst of {self.plan.drawn} drawn chips"] = (self._draw(worst), state, widest)
        for number in range(self.plan.starts - 3):
            tilted = self._tilted(state, f"start {number}")
            chip = self._draw(self.plan.drawn + number)
            starts[f"other decisions first {number}"] = (
                (zero, tilted, min(2, widest)) if number % 2 == 0 else (chip, tilted, widest)
            )
        states = (state, *(self._tilted(state, f"polish {number}") for number in range(2)))
        return [
            self._attempt(name, partial(self._descend, ground, point, view, states, width, widest))
            for name, (point, view, width) in starts.items()
        ]

    def _state(self, ground: Ground, num_crafting: int) -> tuple[LimitState, int]:
        """Return the stand-in and its largest width at which the undeviated chip does not fail."""
        task = self.runtime.task
        still = ground.spreads(np.zeros(self.chips.size, dtype=np.float32))
        if self.score.num_wrong is None:
            return LimitState(task.metric, self.below, None, np.ones(still.size)), 2
        moved = [
            np.abs(ground.spreads(self._draw(number)) - still) ** 2
            for number in range(self.plan.drawn)
        ]
        units = np.sqrt(np.nan_to_num(np.mean(moved, axis=0), nan=1.0, posinf=1.0))
        units = np.maximum(units, 1e-3 * float(np.median(units)) + 1e-12)
        state = LimitState(
            task.metric,
            self.below,
            (self.score.num_wrong - 0.5) * still.size / task.num_decisions,
            units,
        )
        widest = 2 * self.score.num_wrong
        while widest > 1 and state.at(still, widest).value >= 0.0:
            widest //= 2
        return state, widest

    def _tilted(self, state: LimitState, name: str) -> LimitState:
        """Return the stand-in with other units, so that other decisions are turned first."""
        random = stream(self.seed, "most_probable", "tilt", name)
        return LimitState(
            state.metric,
            state.below,
            state.wrong,
            state.units * np.exp(_TILT * random.standard_normal(state.units.size)),
        )

    def _drawn_scores(self) -> list[float]:
        """Return the scores of the drawn chips, in order, several at a time."""
        self.spent.evaluations += self.plan.drawn
        return list(map_ordered(self._drawn_score, range(self.plan.drawn), workers=self.workers))

    def _drawn_score(self, number: int) -> float:
        return self.score(self.runtime.outputs(self.chips.program(self._draw(number))))

    def _attempt(self, name: str, body: partial[Crossed | None]) -> Attempt:
        passes, evaluations = self.spent.passes, self.spent.evaluations
        found = body()
        spent = (self.spent.passes - passes, self.spent.evaluations - evaluations)
        return Attempt(
            name,
            None if found is None else found.latents,
            None if found is None else found.norm,
            *spent,
        )

    def _given(self, deviations: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return a failing chip near a pattern if one is met, else latents that point to it.

        Those latents are the ones of least norm.
        """
        direction = self.nearest.direction(deviations)
        for point in (direction, self.nearest.inverse(deviations)):
            crossed = self._ray(point)
            if crossed is not None:
                return crossed.latents
        return direction

    def _ray(self, point: np.ndarray) -> Crossed | None:
        return first_failing(self.event, point, most=RAY_CHIPS)

    def _descend(
        self,
        ground: Ground,
        start: np.ndarray,
        view: LimitState,
        states: tuple[LimitState, ...],
        width: int,
        widest: int,
    ) -> Crossed | None:
        point = walk(ground, start, view, neighbours=width, passes=self.plan.walk // 2)
        point = walk(
            ground,
            point,
            view,
            neighbours=max(width // 3, 1),
            passes=self.plan.walk - self.plan.walk // 2,
        )
        found = self._ray(point)
        if found is None and self.event(start) <= 0.0:  # the walk lost a chip that fails
            found = self._ray(start)
        return (
            None
            if found is None
            else polish(ground, found, states, widest=max(widest, 64), passes=self.plan.polish)
        )


def _why_none(attempts: list[Attempt]) -> str:
    tried = "; ".join(attempt.name for attempt in attempts)
    if any(attempt.norm is not None for attempt in attempts):
        return (
            f"failing chips were met ({tried}), but none that fails in the deployed network and in"
            " its model file alike: rounding decides"
        )
    return (
        f"no failing chip was met from {len(attempts)} starts ({tried}); that none exists is not"
        " shown"
    )
