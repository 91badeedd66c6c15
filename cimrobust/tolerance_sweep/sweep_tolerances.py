"""One network over write-verify tolerances.

The worst chip found, drawn chips, and what is proven, at each.

A chip of a smaller tolerance is a chip of every larger one. So every search goes on from the worst
chips of its neighbours: upwards each search starts from what was found below it, downwards short
attacks start from what was found above, and in the end every tolerance takes over what is worst
below it. The curve can only fall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.attack.proofs import MOST_SAMPLES, proven
from cimrobust.attack.tolerances import at_tolerance, carried
from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.refusal import Refusal
from cimrobust.cluster.executor import ChangedExecutor, Executor
from cimrobust.data.decision import Score
from cimrobust.engine.subject import Subject
from cimrobust.errors import SelfCheckError
from cimrobust.finished_parts import FinishedParts
from cimrobust.montecarlo.trials import run_trials
from cimrobust.progress import Progress
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.witness_replay import confirm
from cimrobust.tolerance_sweep.sweep_records import SweptMember
from cimrobust.tolerance_sweep.worst_at_tolerance import (
    Proof,
    Worst,
    worst_of_search,
)

if TYPE_CHECKING:
    from cimrobust.attack.attack import Attack
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.montecarlo.trial_table import TrialTable

PLANS = {
    "quick": AttackPlan(known=16, evaluations=80),
    "standard": AttackPlan(known=40, evaluations=240),
    "thorough": AttackPlan(known=120, evaluations=1200),
}


@dataclass(frozen=True)
class SweepContext:
    """What is swept.

    Attributes:
        subject: The network, opened and placed at the profile's own tolerance.
        run: How to compute.
        parts: Where finished parts are kept and taken from.
        executor: Where chips are scored and samples bounded; None: in the threads of this process.
    """

    subject: Subject
    run: Run
    parts: FinishedParts
    executor: Executor | None = None

    def at(self, tolerance: float) -> Subject:
        """Return the network at a tolerance."""
        return at_tolerance(self.subject, tolerance, workers=self.run.workers)

    def executor_at(self, tolerance: float) -> Executor | None:
        """Return where chips of a tolerance are scored and samples bounded."""
        change = partial(at_tolerance, tolerance=tolerance)
        return None if self.executor is None else ChangedExecutor(self.executor, change)

    def run_at(self, tolerance: float) -> Run:
        """Return how to compute, with a progress that says which tolerance it is about."""
        return replace(
            self.run, progress=_Labelled(self.run.progress, f"{100 * tolerance:.4g} %: ")
        )


def sweep_worst(sweep: SweepContext, tolerances: Sequence[float]) -> tuple[Worst, ...]:
    """Return the worst chip found at every tolerance, smallest tolerance first.

    Scores never improve as the tolerance grows.

    Args:
        sweep: The network.
        tolerances: Ascending.

    Raises:
        SelfCheckError: A witness does not replay.
    """
    known: list[Worst] = []
    for tolerance in tolerances:
        known.append(search_at(sweep, tolerance, known[-1:]))
    for position in range(len(known) - 2, -1, -1):
        known[position] = _attack_from_above(sweep, known[position], known[position + 1])
    return tuple(_carried_up(sweep, known))


def search_at(sweep: SweepContext, tolerance: float, near: Sequence[Worst]) -> Worst:
    """Run a whole search at one tolerance, going on from the worst chips of others."""
    subject = sweep.at(tolerance)
    starts = _starts(sweep, near, subject.box)
    parts = sweep.parts.within(f"at-{tolerance!r}", starts)

    def make() -> Worst:
        found = search(subject, sweep.run_at(tolerance), starts=starts, parts=parts)
        return worst_of_search(tolerance, found)

    return parts.recall("worst", Worst, make, _checked_in(subject.box))


def attack_at(
    sweep: SweepContext, tolerance: float, near: Sequence[Worst]
) -> tuple[Attack, AttackContext]:
    """Run a short attack at one tolerance from the worst chips of others."""
    context = AttackContext(sweep.at(tolerance), sweep.run)
    starts = _starts(sweep, near, context.subject.box)
    return context.attack(PLANS[sweep.run.effort], starts), context


def draw_chips(
    sweep: SweepContext, tolerance: float, *, trials: int, seed: int | None = None
) -> TrialTable:
    """Draw chips at one tolerance and score them.

    Trial t of a seed is the same chip whenever it is drawn.
    """
    subject, run = sweep.at(tolerance), sweep.run_at(tolerance)
    used = run.seed if seed is None else seed
    folder = sweep.parts.folder
    return run_trials(
        subject,
        replace(run, seed=used),
        num_trials=trials,
        checkpoint=None if folder is None else folder / f"trials-{tolerance!r}-{used}",
        executor=sweep.executor_at(tolerance),
    )


def prove(
    sweep: SweepContext, worst: Worst, *, below: Proof | None = None, above: Proof | None = None
) -> Proof:
    """Return what is proven at the tolerance of a chip.

    Args:
        sweep: The network.
        worst: The worst chip found there; samples that it breaks are not tried.
        below: Proof at a smaller tolerance; samples that it lacks are not tried.
        above: Proof at a larger tolerance; what it proves holds here too.

    Raises:
        SelfCheckError: The chip breaks a sample that is proven.
    """
    parts = sweep.parts.within(f"proof-{worst.tolerance!r}", worst.pattern, below, above)
    return parts.recall("proof", Proof, lambda: _prove(sweep, worst, below, above, parts))


def _prove(
    sweep: SweepContext,
    worst: Worst,
    below: Proof | None,
    above: Proof | None,
    parts: FinishedParts,
) -> Proof:
    subject, run = sweep.at(worst.tolerance), sweep.run_at(worst.tolerance)
    runtime, placement = subject.runtime, subject.placement
    executor = sweep.executor_at(worst.tolerance)
    output = runtime.outputs(subject.box.weights(worst.pattern), threads=run.workers)
    if runtime.task.is_regression:
        found = certify_run(
            subject,
            Run(workers=run.workers, effort=run.effort),
            worst_output=output,
            parts=parts,
            executor=executor,
        )
        if found.score is None or not np.isfinite(found.score.value):
            return Proof(
                None,
                None,
                0,
                str(found.refusal) if found.score is None else "the bound of the error is infinite",
            )
        return Proof(found.score, None, 0, "")
    network = open_bounds(runtime, placement)
    if isinstance(network, Refusal):
        return Proof(None, None, 0, str(network))
    correct = network.decisions.part_of(runtime.task.right(output))
    held = (
        np.zeros(network.num_decisions, dtype=bool)
        if above is None or above.certified is None
        else above.certified.copy()
    )
    left = correct & ~held
    if below is not None and below.certified is not None:
        left &= below.certified
    open_samples = np.flatnonzero(left)
    tried = open_samples[: MOST_SAMPLES[run.effort]]
    run.progress.start("certifying", 1)
    held |= proven(
        network, tried, effort=run.effort, workers=run.workers, executor=executor, parts=parts
    )
    if (held & ~correct).any():
        sample = int(network.decisions.samples[held & ~correct][0])
        raise SelfCheckError(
            f"no chip within {worst.tolerance:g} may break a certified sample, got sample {sample}"
            " broken; report this"
        )
    count = int(held.sum())
    return Proof(
        Score(count / held.size, count, held.size), held, len(open_samples) - len(tried), ""
    )


def _starts(sweep: SweepContext, near: Sequence[Worst], box: Box) -> dict[str, Pattern]:
    """Return the worst chips of other tolerances as starts."""
    starts: dict[str, Pattern] = {}
    for worst in near:
        source = sweep.at(worst.tolerance).box
        for how, pattern in carried(worst.pattern, source, box).items():
            starts[f"from {100 * worst.tolerance:.4g} %, {how}"] = pattern
    return starts


def _attack_from_above(sweep: SweepContext, worst: Worst, above: Worst) -> Worst:
    """Return the worse of the chip known at a tolerance and what a short attack finds.

    The attack goes on from a larger tolerance.
    """
    parts = sweep.parts.within(f"back-{worst.tolerance!r}", worst, above)

    def make() -> Worst:
        attack, context = attack_at(sweep, worst.tolerance, [worst, above])
        spent = replace(
            worst,
            passes=worst.passes + attack.passes,
            evaluations=worst.evaluations + attack.runs,
        )
        return adopt(context, spent, attack)

    return parts.recall("worst", Worst, make, _checked_in(sweep.at(worst.tolerance).box))


def adopt(context: AttackContext, worst: Worst, attack: Attack) -> Worst:
    """Return the chip that an attack found if it is worse than the one known, replayed."""
    runtime, box = context.subject.runtime, context.subject.box
    if not runtime.task.is_worse(attack.score, worst.score):
        return worst
    replayed, note = confirm(
        runtime, box, attack.pattern, attack.score, workers=context.run.workers
    )
    score = replayed if runtime.converters is None else attack.score
    if not runtime.task.is_worse(score, worst.score):
        return worst
    row = SweptMember.of("short_attack", attack.score, attack.passes)
    return replace(
        worst,
        score=score,
        file_score=replayed,
        member=f"short attack {attack.origin}",
        pattern=attack.pattern,
        replay_note=note,
        members=(*worst.members, row),
    )


def _carried_up(sweep: SweepContext, known: list[Worst]) -> list[Worst]:
    """Let every tolerance take over the worst chip of the one below, which its box holds too."""
    for position, (smaller, larger) in enumerate(pairwise(list(known))):
        smaller = known[position]
        box = sweep.at(larger.tolerance).box
        inside = all(
            np.array_equal(box.clip(smaller.pattern)[name], deviation)
            for name, deviation in smaller.pattern.items()
        )
        if inside and sweep.subject.runtime.task.is_worse(smaller.score, larger.score):
            known[position + 1] = replace(
                larger,
                score=smaller.score,
                file_score=smaller.file_score,
                member=f"the chip at {100 * smaller.tolerance:.4g} %",
                pattern=smaller.pattern,
                replay_note=smaller.replay_note,
            )
    return known


def _checked_in(box: Box) -> Callable[[Worst], None]:
    """Return a check that a chip from disk is one of a box."""
    return lambda worst: box.check(worst.pattern, origin="kept chip")


@dataclass(frozen=True)
class _Labelled:
    """A progress whose bars say what they are about."""

    inner: Progress
    label: str

    def start(self, name: str, total: int) -> None:
        self.inner.start(f"{self.label}{name}", total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.inner.advance(steps, note)

    def finish(self) -> None:
        self.inner.finish()
