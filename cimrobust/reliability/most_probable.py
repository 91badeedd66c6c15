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
(`reliability.descent`). Without a twin: rays through the given and the drawn chips, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.data.failure import FailureScore
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts
from cimrobust.reliability.descent import RAY_CHIPS, DescentContext, Spent, descend, refine
from cimrobust.reliability.likely_chip import PLANS, Attempt, LikelyPlan, LikelySearch, ProbableChip
from cimrobust.reliability.limit_state import LimitState
from cimrobust.reliability.nearest import NearestChips
from cimrobust.reliability.proof import prove
from cimrobust.reliability.ray import Crossed, first_failing
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.search.search_budget import budget_for
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

# Standard deviation of the random units of margins, on the scale of logarithms: other decisions
# come first from another start.
_TILT = 0.4


def most_probable(
    subject: Subject,
    run: Run,
    *,
    below: float,
    known: Mapping[str, Mapping[str, Float32[np.ndarray, "..."]]] | None = None,
    parts: FinishedParts = NOTHING_KEPT,
) -> LikelySearch:
    """Search for the most probable chip that misses a score on these samples.

    Args:
        subject: The network, its data, and the devices.
        run: How to compute.
        below: Score that chips have to reach; an error they may not exceed.
        known: Patterns to start from too, by where they come from; deviations by initializer.
        parts: Where finished starts are kept and taken from; none changes the result.

    Raises:
        UsageError: The devices or the task do not allow it, or there is no such effort.
    """
    budget, plan = budget_for(run), PLANS[run.effort]
    own = parts.within("most_probable", run.effort, below, known)
    search = _Search(subject, run, below, plan, own)
    twin = open_gradients(subject, run, budget)
    run.progress.start("Most probable failing chip", plan.passes)
    # As in the ensemble: steps on vectors are too short to share between torch threads.
    with one_torch_thread():
        attempts = search.run(twin, known or {})
    run.progress.finish()
    chip = search.best(attempts)
    return LikelySearch(
        below=below,
        num_wrong=search.score.num_wrong,
        chips=search.chips,
        chip=chip,
        reason="" if chip is not None else _why_none(attempts),
        attempts=tuple(attempts),
        has_gradient=twin.oracle is not None,
        gradient_reason=twin.reason,
        crafting_samples=len(twin.attack_set),
        spent=search.spent,
        effort=run.effort,
        seed=run.seed,
    )


@dataclass(frozen=True)
class KeptAttempt:
    """A finished start on disk, and what the whole search had spent then."""

    attempt: Attempt
    spent: Spent


class _Search:
    """One search and what it has spent."""

    def __init__(
        self,
        subject: Subject,
        compute: Run,
        below: float,
        plan: LikelyPlan,
        parts: FinishedParts,
    ) -> None:
        self.parts = parts
        self.subject, self.compute, self.plan, self.below = subject, compute, plan, below
        self.runtime = subject.runtime
        self.score = FailureScore(self.runtime.task, below)
        self.chips = LatentChips(subject.placement, as_levels=self.runtime.converters is not None)
        self.nearest = NearestChips(self.chips)
        self.spent = Spent()

    def event(self, latents: Float32[np.ndarray, "devices"]) -> float:
        """Ask the deployed network; 0 or less where the chip fails."""
        self.spent.evaluations += 1
        return self.score(
            self.runtime.outputs(self.chips.program(latents), threads=self.compute.workers)
        )

    def run(
        self, twin: TwinStatus, known: Mapping[str, Mapping[str, Float32[np.ndarray, "..."]]]
    ) -> list[Attempt]:
        """Go through all starts."""
        zero = np.zeros(self.chips.size, dtype=np.float32)
        if self.event(zero) <= 0.0:
            return [Attempt("the median chip", zero, 0.0, 0, 1)]
        given = {origin: self._given(deviations) for origin, deviations in known.items()}
        if twin.oracle is None:
            return self._rays(given)
        context = DescentContext(
            self.chips,
            self.nearest,
            twin.oracle,
            self.event,
            partial(self.compute.progress.advance, 1),
            self.spent,
        )
        return self._descents(context, given, len(twin.attack_set))

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
                self.subject.placement,
                self.chips,
                attempt.latents,
                self.score,
                workers=self.compute.workers,
            )
            if proof is not None:
                return ProbableChip(proof.latents, proof.norm, proof, attempt.name)
        return None

    def _draw(self, number: int) -> Float32[np.ndarray, "devices"]:
        return stream(self.compute.seed, "most_probable", "drawn", number).standard_normal(
            self.chips.size, dtype=np.float32
        )

    def _rays(self, given: Mapping[str, Float32[np.ndarray, "devices"]]) -> list[Attempt]:
        """Follow the rays through the given patterns and the worst drawn chips."""
        drawn = sorted(range(self.plan.drawn), key=self._drawn_scores().__getitem__)[
            : self.plan.rays
        ]
        starts = {f"ray through {name}": point for name, point in given.items()}
        starts |= {f"ray through drawn chip {number}": self._draw(number) for number in drawn}
        return [self._attempt(name, partial(self._ray, point)) for name, point in starts.items()]

    def _descents(
        self,
        context: DescentContext,
        given: Mapping[str, Float32[np.ndarray, "devices"]],
        attack_samples: int,
    ) -> list[Attempt]:
        """Descend from every start."""
        state, widest = self._state(context, attack_samples)
        worst = int(np.argmin(self._drawn_scores()))
        zero = np.zeros(self.chips.size, dtype=np.float32)
        starts: dict[str, tuple[Float32[np.ndarray, "devices"], LimitState, int]] = {
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
            self._attempt(name, partial(self._descend, context, point, view, states, width, widest))
            for name, (point, view, width) in starts.items()
        ]

    def _state(self, context: DescentContext, attack_samples: int) -> tuple[LimitState, int]:
        """Return the stand-in, and its largest width at which no deviation does not fail."""
        task = self.runtime.task
        still = context.margins(np.zeros(self.chips.size, dtype=np.float32))
        if self.score.num_wrong is None:
            return LimitState(task.metric, self.below, None, np.ones(still.size)), 2
        moved = [
            np.abs(context.margins(self._draw(number)) - still) ** 2
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
        random = stream(self.compute.seed, "most_probable", "tilt", name)
        return LimitState(
            state.metric,
            state.below,
            state.wrong,
            state.units * np.exp(_TILT * random.standard_normal(state.units.size)),
        )

    def _drawn_scores(self) -> list[float]:
        """Return the scores of the drawn chips, in order, several at a time."""
        self.spent.evaluations += self.plan.drawn
        return list(
            map_ordered(self._drawn_score, range(self.plan.drawn), workers=self.compute.workers)
        )

    def _drawn_score(self, number: int) -> float:
        return self.score(self.runtime.outputs(self.chips.program(self._draw(number))))

    def _attempt(self, name: str, body: partial[Crossed | None]) -> Attempt:
        """Return what one start led to, from disk where that is known."""
        passes, evaluations = self.spent.passes, self.spent.evaluations

        def check(kept: KeptAttempt) -> None:
            latents = kept.attempt.latents
            if latents is not None and latents.shape != (self.chips.size,):
                raise ValueError(f"chip must have {self.chips.size} latents")

        own = self.parts.within("start", self.spent)
        known = own.find(name, KeptAttempt, check)
        if known is not None:
            self.spent.go_on(known.spent)
            return known.attempt
        found = body()
        attempt = Attempt(
            name,
            None if found is None else found.latents,
            None if found is None else found.norm,
            self.spent.passes - passes,
            self.spent.evaluations - evaluations,
        )
        own.keep(name, KeptAttempt(attempt, self.spent))
        return attempt

    def _given(
        self, deviations: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> Float32[np.ndarray, "devices"]:
        """Return a failing chip near a pattern where one is met.

        Else the latents of least norm that point to it.
        """
        direction = self.nearest.direction(deviations)
        for point in (direction, self.nearest.inverse(deviations)):
            crossed = self._ray(point)
            if crossed is not None:
                return crossed.latents
        return direction

    def _ray(self, point: Float32[np.ndarray, "devices"]) -> Crossed | None:
        return first_failing(self.event, point, most=RAY_CHIPS)

    def _descend(
        self,
        context: DescentContext,
        start: Float32[np.ndarray, "devices"],
        view: LimitState,
        states: tuple[LimitState, ...],
        width: int,
        widest: int,
    ) -> Crossed | None:
        point = descend(context, start, view, neighbours=width, passes=self.plan.descent // 2)
        point = descend(
            context,
            point,
            view,
            neighbours=max(width // 3, 1),
            passes=self.plan.descent - self.plan.descent // 2,
        )
        found = self._ray(point)
        if found is None and self.event(start) <= 0.0:  # the descent lost a chip that fails
            found = self._ray(start)
        return (
            None
            if found is None
            else refine(context, found, states, widest=max(widest, 64), passes=self.plan.refinement)
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
