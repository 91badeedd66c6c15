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
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from cimrobust.cluster.executor import Executor, Task
from cimrobust.engine.parallel import check_stopped
from cimrobust.errors import UsageError
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

Point: TypeAlias = Float32[np.ndarray, "devices"]
Score = Callable[[Point], float]
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


def splitting(budget: int | None = None, particles: int | None = None) -> Splitting:
    """Return the settings of splitting; a tenth of the particles is replaced at each level."""
    default = Splitting()
    count = particles or default.particles
    chosen = Splitting(particles=count, killed=max(count // 10, 1), budget=budget or default.budget)
    chosen.check()
    return chosen


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


@dataclass(frozen=True)
class Start:
    """Where a walk begins, and what it may not rise above.

    Attributes:
        number: Levels so far, at least 1.
        num_staying: Points that stay, one of which is copied.
        point: That one.
        value: Its score.
        level: Score that a move may not end at or above.
        step: Size of a step, in (0, 1].
    """

    number: int
    num_staying: int
    point: Point
    value: float
    level: float
    step: float


@dataclass(frozen=True)
class Walk:
    """How one place of the population is filled.

    Attributes:
        place: Its number.
        start: Where its point walks from; None: it is drawn.
    """

    place: int
    start: Start | None = None


@dataclass(frozen=True)
class Arrived:
    """What a place is filled with.

    Attributes:
        point: The point.
        value: Its score.
        accepted: Moves that were accepted.
    """

    point: Point
    value: float
    accepted: int


@dataclass(frozen=True)
class FillPlaces:
    """The task of filling places of a population; its items are walks.

    Every point is a function of seed, repeat, level, its place and where it walks from.

    Attributes:
        scoring: The task of scoring points.
        size: Coordinates of a point.
        moves: Steps of a walk.
        seed: Seed of the run.
        repeat: Number of the repeat.
    """

    scoring: Task[Point, float]
    size: int
    moves: int
    seed: int
    repeat: int

    def on(self, subject: Subject) -> Callable[[Walk], Arrived]:
        """Return what fills one place, from many threads at once."""
        return partial(_arrived, self, self.scoring.on(subject))

    def random(self, number: int, place: int) -> np.random.Generator:
        """Return the random numbers of a place after some levels."""
        return stream(self.seed, "splitting", self.repeat, number, place)


def split(
    scoring: Task[Point, float],
    size: int,
    settings: Splitting,
    run: Run,
    *,
    repeat: int,
    executor: Executor,
) -> Repeat:
    """Run one population until it is in the event, stuck, or out of budget.

    Every point is a function of seed, repeat, level and its place in the population, so the result
    does not depend on where it is worked on.

    Args:
        scoring: The task of scoring points; the event is a score of 0 or less.
        size: Coordinates of a point.
        settings: How it is moved.
        run: How to compute: its seed, and its progress.
        repeat: Number of the repeat; repeats are independent.
        executor: Where points are moved: those of one level at the same time.

    Raises:
        UsageError: The settings make no sense.
        CimrobustError: A worker refuses to work, or the cluster is gone.
    """
    settings.check()
    task = FillPlaces(scoring, size, settings.moves, run.seed, repeat)
    population = _Population(task, settings, run, executor)
    reason = ""
    while not reason:
        level = population.next_level()
        if level <= 0.0:
            break
        reason = population.descend(level)
    return population.result(reason)


class _Population:
    """The points of one run and what happened to them."""

    def __init__(self, task: FillPlaces, settings: Splitting, run: Run, executor: Executor) -> None:
        self._task, self._settings, self._run, self._executor = task, settings, run, executor
        self._points: list[Point] = []
        self._scores = np.empty(settings.particles)
        with closing(
            executor.map_ordered(task, [Walk(place) for place in range(settings.particles)])
        ) as drawn:
            for place, made in enumerate(drawn):
                self._points.append(made.point)
                self._scores[place] = made.value
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
        moved = self._replace(leaving, [self._walk(place, staying) for place in leaving.tolist()])
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

    def _depart(self, count: int) -> None:
        particles = self._settings.particles
        self._rates += [particles - index for index in range(count)]
        self._log_probability += math.log1p(-count / particles)

    def _walk(self, place: int, staying: Int64[np.ndarray, "staying"]) -> Walk:
        """Return how the place of a point that leaves is filled: from one that stays."""
        number = len(self._levels)
        origin = int(staying[_origin(self._task.random(number, place), staying.size)])
        return Walk(
            place,
            Start(
                number=number,
                num_staying=staying.size,
                point=self._points[origin],
                value=float(self._scores[origin]),
                level=self._levels[-1],
                step=self._step,
            ),
        )

    def _replace(self, leaving: Int64[np.ndarray, "leaving"], walks: Sequence[Walk]) -> int:
        """Fill the places of the points that leave; return how many moves were accepted."""
        moved, state = 0, f"level {len(self._levels)}, about {math.exp(self._log_probability):.1e}"
        with closing(self._executor.map_ordered(self._task, walks)) as arrived:
            for place, made in zip(leaving.tolist(), arrived, strict=True):
                self._points[place], self._scores[place] = made.point, made.value
                moved += made.accepted
                self._run.progress.advance(self._settings.moves, state)
        return moved


def _arrived(task: FillPlaces, score: Score, walk: Walk) -> Arrived:
    """Fill one place: draw a point, or copy one that stays and move it below the level."""
    if walk.start is None:
        drawn = task.random(0, walk.place).standard_normal(task.size, dtype=np.float32)
        return Arrived(drawn, _evaluate(score, drawn), 0)
    return _moved(score, walk.start, task.random(walk.start.number, walk.place), task.moves)


def _moved(score: Score, start: Start, random: np.random.Generator, moves: int) -> Arrived:
    """Move a copy of a point below the level.

    Its steps keep the standard normal distribution (preconditioned Crank-Nicolson).
    """
    _origin(random, start.num_staying)  # the choice that was made first of the same numbers
    point, value, accepted = start.point, start.value, 0
    kept, step = np.float32(math.sqrt(1.0 - start.step**2)), np.float32(start.step)
    for _ in range(moves):
        proposed = kept * point + step * random.standard_normal(point.size, dtype=np.float32)
        # With x and z standard normal so is sqrt(1 - s^2) x + s z, and both ends of a move may
        # be exchanged (Cotter et al. 2013). Refusing the moves that end at or above the level
        # keeps the distribution below it.
        proposed_value = _evaluate(score, proposed)
        if proposed_value < start.level:
            point, value, accepted = proposed, proposed_value, accepted + 1
    return Arrived(point, value, accepted)


def _origin(random: np.random.Generator, num_staying: int) -> int:
    """Choose one of the points that stay."""
    return int(random.choice(num_staying))


def _evaluate(score: Score, point: Point) -> float:
    check_stopped()
    return score(point)
