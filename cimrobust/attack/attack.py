"""Short attacks that diagnostics share: a box, some starts, a few passes.

Scores come from the deployed engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cimrobust.attack.candidates import (
    CORNER,
    NO_DEVIATION,
    SCORED,
    known_candidates,
    without_gradient,
    worst_of,
)
from cimrobust.attack.case_parts import part_of
from cimrobust.data.decision import Score
from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_device import open_device
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.box import Box, Pattern, box_of
from cimrobust.mapping.placement import Placement
from cimrobust.progress import NullProgress
from cimrobust.search.climb import climb_in_turn
from cimrobust.search.crafting import crafting_subset
from cimrobust.search.gradients import Opened, open_gradients
from cimrobust.search.losses import Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.problem import Candidate, Problem
from cimrobust.search.search_budget import budget_of
from cimrobust.search.torch_patterns import array_of

# First step of a climb that goes on from a pattern of the search, in half-widths of the box.
_WARM_STEP = 0.5


@dataclass(frozen=True)
class Plan:
    """What one attack may spend.

    Attributes:
        warm: Passes that go on from the best start.
        fresh: Passes from zero.
        evaluations: Evaluations of the gradient-free search, which takes their place where there is
            no twin.
    """

    warm: int
    fresh: int
    evaluations: int

    @property
    def steps(self) -> int:
        """Steps of a progress bar, with a twin."""
        return self.warm + self.fresh


@dataclass(frozen=True)
class Attack:
    """What one attack found.

    Attributes:
        pattern: The worst pattern it knows of, inside its box.
        score: Its score on all samples attacked, by the deployed engine.
        output: Decision output on these samples.
        origin: How the pattern was reached.
        passes: Forward-backward passes over the crafting samples.
        evaluations: Forward runs over the crafting samples.
        crafting_samples: Samples that the pattern was made on.
    """

    pattern: Pattern
    score: Score
    output: np.ndarray
    origin: str
    passes: int
    evaluations: int
    crafting_samples: int


@dataclass(frozen=True)
class Bench:
    """The twin of a network, opened once for all attacks on it.

    Attributes:
        runtime: The network and its data.
        placement: Where its weights are stored.
        effort: Gives the number of crafting samples.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        source: A bench of the same stored weights with another box, whose twin is used; None: a
            twin of its own is opened.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``.
    """

    runtime: Runtime
    placement: Placement
    effort: str = "quick"
    seed: int = 0
    workers: int = 1
    device_type: str = "cpu"
    source: Bench | None = None

    @cached_property
    def box(self) -> Box:
        """The tolerance box."""
        return box_of(self.placement)

    @cached_property
    def opened(self) -> Opened:
        """The twin, or why there is none."""
        if self.source is not None:
            return self.source.opened
        device = open_device(self.device_type)
        return open_gradients(
            self.runtime,
            self.placement,
            budget_of(self.effort),
            seed=self.seed,
            workers=self.workers,
            device=device,
        )

    @property
    def has_gradient(self) -> bool:
        """Whether attacks follow gradients."""
        return self.opened.oracle is not None

    def problem(self, box: Box, part: np.ndarray | None = None, *, passes: int) -> Problem:
        """Return a search problem over a box.

        Args:
            box: Where patterns may lie.
            passes: Passes that may be made.
            part: Indices of the samples that count; None: all.
        """
        if part is None:
            opened = self.opened
            return Problem(
                self.runtime,
                box,
                opened.crafting,
                opened.oracle,
                self.seed,
                self.workers,
                NullProgress(),
                most_passes=passes,
            )
        runtime = part_of(self.runtime, self.placement, part, workers=self.workers)
        task = runtime.task
        crafting = crafting_subset(
            task.labels,
            count=len(self.opened.crafting),
            seed=self.seed,
            is_regression=task.is_regression,
        )
        oracle = None if self.opened.oracle is None else self.opened.oracle.on(runtime, crafting)
        return Problem(
            runtime,
            box,
            crafting,
            oracle,
            self.seed,
            self.workers,
            NullProgress(),
            most_passes=passes,
        )

    def steepest(self, pattern: Pattern, sample: int) -> Pattern:
        """Return the corner of the box that lowers the margin of one sample fastest.

        It is seen from `pattern`, and takes one pass over that sample.
        """
        problem = self.problem(self.box, np.array([sample]), passes=1)
        evaluation = problem.step(
            problem.space.pattern(problem.space.unit(pattern)), Hinge(np.inf), 1.0
        )
        return self.box.corner(
            {name: array_of(gradient) for name, gradient in evaluation.gradients.items()}
        )

    def attack(
        self,
        name: str,
        *,
        box: Box,
        plan: Plan,
        starts: Mapping[str, Pattern],
        part: np.ndarray | None = None,
    ) -> Attack:
        """Look for a pattern of a box that is as bad as possible, from known ones and from zero.

        Args:
            name: Keys the random numbers.
            box: Where patterns may lie.
            plan: What may be spent.
            starts: Known patterns by origin, brought into the box.
            part: Indices of the samples that count; None: all.
        """
        problem = self.problem(box, part, passes=plan.steps)
        candidates = known_candidates(problem, name, starts)
        # Steps on vectors are too short to share: more torch threads only wait for each other.
        with one_torch_thread():
            if problem.oracle is None:
                candidates += without_gradient(problem, plan.evaluations)
            else:
                candidates += _climbs(problem, name, plan, candidates)
        return _scored(problem, candidates)


def _climbs(problem: Problem, name: str, plan: Plan, known: list[Candidate]) -> list[Candidate]:
    """Climb from the best known pattern, and from zero."""
    best = min(known, key=lambda candidate: candidate.key)
    runs: list[tuple[list[Loss], Pattern, int, float, str]] = []
    if problem.task.is_regression:
        error: list[Loss] = [RegressionError(problem.task.metric)]
        runs = [
            (
                error,
                best.pattern,
                plan.warm,
                _WARM_STEP,
                f"from {best.origin.removesuffix(CORNER)}",
            ),
            (error, problem.box.zero(), plan.fresh, 2.0, "from zero"),
        ]
    else:
        near: list[Loss] = [SmoothAccuracy(0.25), Hinge(0.0)]
        runs = [
            (near, best.pattern, plan.warm, _WARM_STEP, f"from {best.origin.removesuffix(CORNER)}"),
            (
                [SmoothAccuracy(0.5), SmoothAccuracy(0.25)],
                problem.box.zero(),
                plan.fresh,
                2.0,
                "from zero",
            ),
        ]
    found: list[Candidate] = []
    for losses, start, passes, first_step, origin in runs:
        found += climb_in_turn(
            problem, name, losses, start=start, passes=passes, first_step=first_step, origin=origin
        )
    return found


def _scored(problem: Problem, candidates: list[Candidate]) -> Attack:
    """Score the best candidates on all samples of the problem.

    The worst is what the attack found, no deviation if nothing does harm.
    """
    zero = [candidate for candidate in candidates if candidate.origin == NO_DEVIATION]
    ranked = [*sorted(candidates, key=lambda candidate: candidate.key)[:SCORED], *zero]
    score, output, candidate = worst_of(problem, ranked)
    return Attack(
        pattern=candidate.pattern,
        score=score,
        output=output,
        origin=candidate.origin,
        passes=problem.passes,
        evaluations=problem.evaluations + len(ranked),
        crafting_samples=len(problem.crafting),
    )
