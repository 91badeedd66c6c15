"""Multilevel splitting.

The probability of an event far too rare to be drawn, by moving a population of chips towards it
level by level.

N points are drawn. The K of them with the highest scores are the level that the others are below;
they are replaced by copies of others, moved by a Markov chain that keeps the
standard normal distribution below the level. After j levels the population is a sample of the
points that are below all of them, of probability about (1 - K/N)^j.

References:
    S.-K. Au, J. L. Beck, "Estimation of small failure probabilities in high dimensions by subset
    simulation", Probab. Eng. Mech. 16, 2001. A. Guyader, N. Hengartner, E. Matzner-Lober,
    "Simulation and estimation of extreme quantiles and extreme probabilities", Appl. Math. Optim.
    64, 2011. S. Webb, T. Rainforth, Y. W. Teh, M. P. Kumar, "A statistical approach to assessing
    neural network robustness", ICLR 2019, arXiv 1811.07209. K. Tit, T. Furon, M. Rousset,
    "Efficient statistical assessment of neural network corruption robustness", NeurIPS 2021. S. L.
    Cotter, G. O. Roberts, A. M. Stuart, D. White, "MCMC methods for functions", Statist. Sci. 28,
    2013 (the move).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int64

from cimrobust.engine.parallel import check_stopped, map_ordered
from cimrobust.errors import UsageError
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.run import Run

Score = Callable[[Float32[np.ndarray, "devices"]], float]
"""Of a point, float32 [size]; the event is a score of 0 or less. Called from several threads."""

# Share of moves that the step is adapted to; between the 0.2 to 0.4 that is near the best for
# random walks in many dimensions.
_ACCEPTED = 0.3
_FIRST_STEP = 0.5
_SMALLEST_STEP = 0.01


@dataclass(frozen=True)
class Splitting:
    """How a population is moved.

    Attributes:
        particles: N, points of the population.
        killed: K, points replaced at each level.
        moves: Steps of the Markov chain of every replaced point, one evaluation each.
        budget: Most evaluations of one run.
    """

    particles: int = 100
    killed: int = 10
    moves: int = 15
    budget: int = 40_000

    def check(self) -> None:
        """Raise UsageError where a number makes no sense."""
        if self.particles < 10 or not 1 <= self.killed <= self.particles // 2 or self.moves < 1:
            raise UsageError(
                "splitting must have at least 10 particles, replace between 1 and half of them and"
                f" move them at least once, got {self.particles} particles, {self.killed} replaced,"
                f" {self.moves} moves; choose others"
            )
        if self.budget < self.particles + self.killed * self.moves:
            raise UsageError(
                f"budget must pay for the first level, {self.particles + self.killed * self.moves}"
                f" evaluations, got {self.budget}; allow more"
            )


@dataclass(frozen=True)
class Repeat:
    """One run of the population.

    Attributes:
        log_probability: Logarithm of the estimate; of the last level where the event was not
            reached.
        reason: Why the event was not reached; empty where it was, by more than N - K points.
        rates: For every point that left, in order, how many there were: the time between two
            departures is exponential with this rate, time being minus the logarithm
            of probability.
        next_rate: The same for the departure that did not happen any more.
        levels: Scores of the levels, falling.
        evaluations: Points evaluated.
        accepted: Share of moves that were accepted.
        nearest: Smallest norm of the points in the event; None: none is.
    """

    log_probability: float
    reason: str
    rates: tuple[int, ...]
    next_rate: int
    levels: tuple[float, ...]
    evaluations: int
    accepted: float
    nearest: float | None

    @property
    def reached(self) -> bool:
        """Whether the event was reached, so that its probability is estimated."""
        return not self.reason


def split(
    score: Score,
    size: int,
    settings: Splitting,
    run: Run,
    *,
    repeat: int,
) -> Repeat:
    """Run one population until it is in the event, stuck, or out of budget.

    Every point is a function of seed, repeat, level and its place in the population, so the result
    does not depend on the number of workers.

    Args:
        score: Of a point; the event is a score of 0 or less.
        size: Coordinates of a point.
        settings: How it is moved.
        run: How to compute: as many points as it has workers are moved at the same time.
        repeat: Number of the repeat; repeats are independent.
    """
    settings.check()
    population = _Population(score, size, settings, run, repeat)
    reason = ""
    while not reason:
        level = population.next_level()
        if level <= 0.0:
            break
        reason = population.descend(level)
    return population.result(reason)


@dataclass(frozen=True)
class _Start:
    """Where a point is copied from, and what it may not rise above."""

    points: Sequence[Float32[np.ndarray, "devices"]]
    scores: Float64[np.ndarray, "particles"]
    staying: Int64[np.ndarray, "staying"]
    level: float
    step: float


class _Population:
    """The points of one run and what happened to them."""

    def __init__(
        self,
        score: Score,
        size: int,
        settings: Splitting,
        run: Run,
        repeat: int,
    ) -> None:
        self._score, self._settings, self._run, self._repeat = score, settings, run, repeat
        self._points = [
            self._stream(0, place).standard_normal(size, dtype=np.float32)
            for place in range(settings.particles)
        ]
        self._scores = np.empty(settings.particles)
        for place, value in enumerate(
            map_ordered(partial(_evaluate, score), self._points, workers=run.workers)
        ):
            self._scores[place] = value
            run.progress.advance(1)
        self._rates: list[int] = []
        self._levels: list[float] = []
        self._evaluations, self._accepted = settings.particles, 0
        self._step, self._log_probability = _FIRST_STEP, 0.0

    def next_level(self) -> float:
        """Return the K-th highest score."""
        return float(np.sort(self._scores)[-self._settings.killed])

    def descend(self, level: float) -> str:
        """Replace the points at or above a level; return why that cannot be done, if so."""
        settings = self._settings
        leaving, staying = (
            np.flatnonzero(self._scores >= level),
            np.flatnonzero(self._scores < level),
        )
        planned = leaving.size * settings.moves
        if staying.size == 0:
            return (
                "all chips of the population score the same, so no chip is nearer to failing than"
                " another"
            )
        if self._evaluations + planned > settings.budget:
            return f"the budget of {settings.budget} chips was spent"
        self._depart(leaving.size)
        self._levels.append(level)
        moved = self._replace(
            leaving, _Start(self._points, self._scores, staying, level, self._step)
        )
        self._evaluations += planned
        self._accepted += moved
        self._step = float(
            np.clip(self._step * math.exp(moved / planned - _ACCEPTED), _SMALLEST_STEP, 1.0)
        )
        return ""

    def result(self, reason: str) -> Repeat:
        """Count the points in the event and sum up."""
        inside = np.flatnonzero(self._scores <= 0.0)
        if not reason:
            self._depart(self._settings.particles - inside.size)
        proposed = self._evaluations - self._settings.particles
        return Repeat(
            log_probability=self._log_probability,
            reason=reason,
            rates=tuple(self._rates),
            next_rate=self._settings.particles if reason else int(inside.size),
            levels=tuple(self._levels),
            evaluations=self._evaluations,
            accepted=self._accepted / proposed if proposed else 0.0,
            nearest=min(
                (float(np.linalg.norm(self._points[place])) for place in inside), default=None
            ),
        )

    def _stream(self, *names: int) -> np.random.Generator:
        return stream(self._run.seed, "splitting", self._repeat, *names)

    def _depart(self, count: int) -> None:
        particles = self._settings.particles
        self._rates += [particles - index for index in range(count)]
        self._log_probability += math.log1p(-count / particles)

    def _replace(self, leaving: Int64[np.ndarray, "leaving"], start: _Start) -> int:
        """Fill the places of the points that leave; return how many moves were accepted.

        Points that stay are only read meanwhile.
        """
        number, moved = len(self._levels), 0
        state = f"level {number}, about {math.exp(self._log_probability):.1e}"
        made = map_ordered(
            lambda place: self._move(start, number, place),
            leaving.tolist(),
            workers=self._run.workers,
        )
        for place, (point, value, accepted) in zip(leaving.tolist(), made, strict=True):
            self._points[place], self._scores[place] = point, value
            moved += accepted
            self._run.progress.advance(self._settings.moves, state)
        return moved

    def _move(
        self, start: _Start, number: int, place: int
    ) -> tuple[Float32[np.ndarray, "devices"], float, int]:
        """Copy a point that stays and move it below the level.

        Its steps keep the standard normal distribution (preconditioned Crank-Nicolson).
        """
        random = self._stream(number, place)
        origin = int(random.choice(start.staying))
        point, value, accepted = start.points[origin], float(start.scores[origin]), 0
        kept, step = np.float32(math.sqrt(1.0 - start.step**2)), np.float32(start.step)
        for _ in range(self._settings.moves):
            proposed = kept * point + step * random.standard_normal(point.size, dtype=np.float32)
            # With x and z standard normal so is sqrt(1 - s^2) x + s z, and both ends of a move may
            # be exchanged (Cotter et al. 2013). Refusing the moves that end at or above the level
            # keeps the distribution below it.
            proposed_value = _evaluate(self._score, proposed)
            if proposed_value < start.level:
                point, value, accepted = proposed, proposed_value, accepted + 1
        return point, value, accepted


def _evaluate(score: Score, point: Float32[np.ndarray, "devices"]) -> float:
    check_stopped()
    return score(point)
