"""Rankings of devices, attacked: here one after the other, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64

from cimrobust.attack.attack import Attack
from cimrobust.attack.attack_context import AttackContext
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.rankings import (
    at_random,
    by_curvature,
    by_gain,
    by_magnitude,
    by_slice,
    by_worst_curvature,
)
from cimrobust.device_level.tightening import Tightening
from cimrobust.device_level.verification import VerifySettings
from cimrobust.progress import NullProgress
from cimrobust.run import Run
from cimrobust.search.losses import CrossEntropy, Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.attack.attack_plan import AttackPlan
    from cimrobust.cluster.executor import Executor
    from cimrobust.data.task import Task
    from cimrobust.engine.subject import Subject
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.scorer import Scorer

#: A ranking: its name, and the number of the draw where it is random.
Order = tuple[str, int]


@dataclass
class Comparison:
    """What all attacks of one comparison share; counts what they cost."""

    context: AttackContext
    tightening: Tightening
    settings: VerifySettings
    passes: int = 0
    evaluations: int = 0

    def attack(
        self, box: Box | None, known: Mapping[str, Pattern], plan: AttackPlan | None = None
    ) -> Attack:
        """Attack a box, None: the full one, from scratch and from known patterns."""
        found = self.context.attack(plan or self.settings.plan, known, box=box)
        self.count(found)
        return found

    def count(self, spent: Attack | PassLedger) -> None:
        """Add what something cost."""
        self.passes += spent.passes
        self.evaluations += spent.evaluations

    @property
    def task(self) -> Task:
        """The task."""
        return self.context.subject.runtime.task

    @property
    def losses(self) -> list[Loss]:
        """Losses that rankings take gradients of."""
        if self.task.is_regression:
            return [RegressionError(self.task.metric)]
        return [SmoothAccuracy(0.25), Hinge(0.0), CrossEntropy()]


def chosen_devices(
    score: Float64[np.ndarray, "devices"], share: float
) -> Bool[np.ndarray, "devices"]:
    """Return which devices a share of the best ranked are, bool [devices].

    Equal ones by number, at least one device.
    """
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(-score, kind="stable")[: max(round(share * score.size), 1)]] = True
    return chosen


@dataclass(frozen=True)
class Ranked:
    """One ranking, attacked.

    Attributes:
        score: What it gives every device, larger first.
        attacks: Of every share, largest share first.
    """

    score: Float64[np.ndarray, "devices"]
    attacks: list[Attack]


def attack_ranking(comparison: Comparison, full: Attack, order: Order) -> Ranked:
    """Attack the shares of a ranking, which is given by its name and draw."""
    name, draw = order
    score = _score(comparison, name, full, draw)
    known = {"the worst pattern": full.pattern}
    found: list[Attack] = []
    for share in reversed(comparison.settings.shares):
        attack = comparison.attack(comparison.tightening.box(chosen_devices(score, share)), known)
        known = {"the worst pattern": full.pattern, "a larger share": attack.pattern}
        found.append(attack)
        comparison.context.run.progress.advance(
            1, f"{name} {100 * share:g} %: {attack.score.value:.4g}"
        )
    return Ranked(score, found)


@dataclass(frozen=True)
class AttackedElsewhere:
    """One ranking that a worker has attacked, and what that cost.

    Attributes:
        ranked: The ranking and its attacks, without the points that climbs ended at.
        passes: Forward-backward passes.
        evaluations: Forward runs over the attack set.
    """

    ranked: Ranked
    passes: int
    evaluations: int


@dataclass(frozen=True)
class AttackRankings:
    """The task of attacking the shares of rankings; its items are their names and draws.

    Attributes:
        run: How to compute.
        settings: What is asked.
        full: The attack on the full box.
    """

    run: Run
    settings: VerifySettings
    full: Attack

    def on(self, subject: Subject) -> Callable[[Order], AttackedElsewhere]:
        """Return what attacks one ranking."""
        context = AttackContext(subject, self.run)
        space = DeviceSpace(subject.placement, subject.scan)
        tightening = Tightening(space, self.settings.factor)

        def attacked(order: Order) -> AttackedElsewhere:
            comparison = Comparison(context, tightening, self.settings)
            made = attack_ranking(comparison, self.full, order)
            bare = [replace(attack, points=()) for attack in made.attacks]
            return AttackedElsewhere(
                replace(made, attacks=bare), comparison.passes, comparison.evaluations
            )

        return attacked


def attack_rankings_elsewhere(
    comparison: Comparison, full: Attack, orders: Sequence[Order], executor: Executor
) -> list[Ranked]:
    """Attack the rankings on workers."""
    run, settings = comparison.context.run, comparison.settings
    alone = replace(run, workers=1, progress=NullProgress())
    made: list[Ranked] = []
    with closing(executor.map_ordered(AttackRankings(alone, settings, full), orders)) as rankings:
        for (name, _), found in zip(orders, rankings, strict=True):
            comparison.passes += found.passes
            comparison.evaluations += found.evaluations
            made.append(found.ranked)
            run.progress.advance(
                len(settings.shares), f"{name}: {found.ranked.attacks[0].score.value:.4g}"
            )
    return made


def _score(
    comparison: Comparison, name: str, full: Attack, draw: int
) -> Float64[np.ndarray, "devices"]:
    """Return the scores that a ranking gives all devices, larger first."""
    scorer = comparison.context.scorer()
    score = _ranking(comparison, scorer, name, full, draw)
    comparison.count(scorer.ledger)
    return score


def _ranking(
    comparison: Comparison, scorer: Scorer, name: str, full: Attack, draw: int
) -> Float64[np.ndarray, "devices"]:
    tightening = comparison.tightening

    def random(*names: str | int) -> np.random.Generator:
        return stream(comparison.context.run.seed, "write verify", name, *names)

    if name == "random":
        return at_random(tightening, random(draw))
    if name == "slice":
        return by_slice(tightening, random())
    if name == "magnitude":
        return by_magnitude(tightening)
    if name == "second_derivative":
        return by_curvature(scorer, tightening, random)
    if name == "gain":
        return by_gain(scorer, tightening, full.points[:3], comparison.losses)

    def attack(score: Float64[np.ndarray, "devices"], share: float) -> Pattern:
        box = tightening.box(chosen_devices(score, share))
        plan = comparison.settings.plan.scaled(0.5)
        return comparison.attack(box, {"the worst pattern": full.pattern}, plan).pattern

    return by_worst_curvature(scorer, tightening, full.points[:2], attack, random)
