"""One network over write-verify tolerances.

The worst chip found, drawn chips, and what is proven, at each.

A chip of a smaller tolerance is a chip of every larger one. So every search goes on from the worst
chips of its neighbours: upwards each search starts from what was
found below it, downwards short attacks start from what was found above, and in the end every
tolerance takes over what is worst below it. The curve can only fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cimrobust.attack.attack import Attack, Bench, Plan
from cimrobust.attack.diagnosis_protocol import Settings
from cimrobust.attack.proofs import MOST_SAMPLES, proven
from cimrobust.attack.tolerances import at_tolerance, carried
from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounded_network import open_bounds
from cimrobust.certify.refusal import Refusal
from cimrobust.data.decision import Score
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject as Placed
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import Pattern, box_of
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trial_table import TrialTable
from cimrobust.montecarlo.trials import run_trials
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.progress import Progress
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.witness_replay import confirm
from cimrobust.tolerance_sweep.sweep_memory import Memory, Part
from cimrobust.tolerance_sweep.worst_at_tolerance import (
    MemberScore,
    Proof,
    Worst,
    part_of_search,
    part_of_worst,
    worst_of,
)

PLANS = {
    "quick": Plan(warm=16, fresh=0, evaluations=80),
    "standard": Plan(warm=40, fresh=0, evaluations=240),
    "thorough": Plan(warm=120, fresh=0, evaluations=1200),
}


@dataclass(frozen=True)
class Subject:
    """What is swept.

    Attributes:
        runtime: The network, opened at the profile's own tolerance.
        scan: Its crossbar layers.
        placement: Where they are stored at the profile's own tolerance.
        settings: Effort, seed, workers, progress.
        memory: Finished parts.
    """

    runtime: Runtime
    scan: LayerScan
    placement: Placement
    settings: Settings
    memory: Memory

    def at(self, tolerance: float) -> tuple[Runtime, Placement]:
        """Return runtime and placement at a tolerance."""
        return at_tolerance(
            self.runtime, self.scan, self.placement, tolerance, workers=self.settings.workers
        )

    def progress(self, tolerance: float) -> Progress:
        """Return a progress that says which tolerance it is about."""
        return _Labelled(self.settings.progress, f"{100 * tolerance:.4g} %: ")


def sweep_worst(subject: Subject, tolerances: Sequence[float]) -> tuple[Worst, ...]:
    """Return the worst chip found at every tolerance, smallest tolerance first.

    Scores never improve as the tolerance grows.

    Args:
        subject: The network.
        tolerances: Ascending.

    Raises:
        SelfCheckError: A witness does not replay.
    """
    known: list[Worst] = []
    for tolerance in tolerances:
        known.append(search_at(subject, tolerance, known[-1:]))
    for position in range(len(known) - 2, -1, -1):
        known[position] = _attack_from_above(subject, known[position], known[position + 1])
    return tuple(_carried_up(subject, known))


def search_at(subject: Subject, tolerance: float, near: Sequence[Worst]) -> Worst:
    """Run a whole search at one tolerance, going on from the worst chips of others."""

    def make() -> Part:
        runtime, placement = subject.at(tolerance)
        settings = subject.settings
        found = search(
            runtime,
            placement,
            effort=settings.effort,
            seed=settings.seed,
            workers=settings.workers,
            progress=subject.progress(tolerance),
            starts=_starts(subject, near, placement),
            device_type=settings.device_type,
        )
        return part_of_search(found)

    return worst_of(tolerance, subject.memory.recall(_name("search", tolerance), make))


def attack_at(subject: Subject, tolerance: float, near: Sequence[Worst]) -> tuple[Attack, Bench]:
    """Run a short attack at one tolerance from the worst chips of others."""
    runtime, placement = subject.at(tolerance)
    settings = subject.settings
    bench = Bench(
        runtime, placement, settings.effort, settings.seed, settings.workers, settings.device_type
    )
    starts = _starts(subject, near, placement)
    return bench.attack("sweep", box=bench.box, plan=PLANS[settings.effort], starts=starts), bench


def draw_chips(
    subject: Subject, tolerance: float, *, trials: int, seed: int | None = None
) -> TrialTable:
    """Draw chips at one tolerance and score them.

    Trial t of a seed is the same chip whenever it is drawn.
    """
    runtime, placement = subject.at(tolerance)
    used = subject.settings.seed if seed is None else seed
    folder: Path | None = subject.memory.folder
    return run_trials(
        Placed(runtime, placement),
        Run(used, subject.settings.workers, progress=subject.progress(tolerance)),
        num_trials=trials,
        checkpoint=None if folder is None else folder / f"trials-{tolerance!r}-{used}",
    )


def prove(
    subject: Subject, worst: Worst, *, below: Proof | None = None, above: Proof | None = None
) -> Proof:
    """Return what is proven at the tolerance of a chip.

    Args:
        subject: The network.
        worst: The worst chip found there; samples that it breaks are not tried.
        below: Proof at a smaller tolerance; samples that it lacks are not tried.
        above: Proof at a larger tolerance; what it proves holds here too.

    Raises:
        SelfCheckError: The chip breaks a sample that is proven.
    """

    def make() -> Part:
        proof = _prove(subject, worst, below, above)
        score = (
            None
            if proof.score is None
            else [proof.score.value, proof.score.count, proof.score.num_samples]
        )
        arrays = {} if proof.certified is None else {"certified": proof.certified}
        return {"score": score, "not_tried": proof.not_tried, "reason": proof.reason}, arrays

    values, arrays = subject.memory.recall(_name("proof", worst.tolerance), make)
    score = None if values["score"] is None else Score(*values["score"])
    return Proof(score, arrays.get("certified"), values["not_tried"], values["reason"])


def _prove(subject: Subject, worst: Worst, below: Proof | None, above: Proof | None) -> Proof:
    runtime, placement = subject.at(worst.tolerance)
    settings = subject.settings
    output = runtime.outputs(box_of(placement).weights(worst.pattern), threads=settings.workers)
    if runtime.task.is_regression:
        found = certify_run(
            Placed(runtime, placement),
            Run(workers=settings.workers, effort=settings.effort),
            worst_output=output,
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
    right = runtime.task.right(output).reshape(-1)
    held = (
        np.zeros(network.num_samples, dtype=bool)
        if above is None or above.certified is None
        else above.certified.copy()
    )
    left = right & ~held
    if below is not None and below.certified is not None:
        left &= below.certified
    open_samples = np.flatnonzero(left)
    tried = open_samples[: MOST_SAMPLES[settings.effort]]
    subject.progress(worst.tolerance).start("certifying", 1)
    held |= proven(network, tried, effort=settings.effort, workers=settings.workers)
    if (held & ~right).any():
        sample = int(np.flatnonzero(held & ~right)[0])
        raise SelfCheckError(
            f"no chip within {worst.tolerance:g} may break a certified sample, got sample {sample}"
            " broken; report this"
        )
    count = int(held.sum())
    return Proof(
        Score(count / held.size, count, held.size), held, len(open_samples) - len(tried), ""
    )


def _starts(subject: Subject, near: Sequence[Worst], placement: Placement) -> dict[str, Pattern]:
    """Return the worst chips of other tolerances as starts."""
    starts: dict[str, Pattern] = {}
    for worst in near:
        source = box_of(subject.at(worst.tolerance)[1])
        for how, pattern in carried(worst.pattern, source, box_of(placement)).items():
            starts[f"from {100 * worst.tolerance:.4g} %, {how}"] = pattern
    return starts


def _attack_from_above(subject: Subject, worst: Worst, above: Worst) -> Worst:
    """Return the worse of the chip known at a tolerance and the one that a short attack finds.

    The attack comes from a larger tolerance.
    """

    def make() -> Part:
        attack, bench = attack_at(subject, worst.tolerance, [worst, above])
        spent = replace(
            worst,
            passes=worst.passes + attack.passes,
            evaluations=worst.evaluations + attack.evaluations,
        )
        return part_of_worst(adopt(bench, spent, attack))

    return worst_of(worst.tolerance, subject.memory.recall(_name("back", worst.tolerance), make))


def adopt(bench: Bench, worst: Worst, attack: Attack) -> Worst:
    """Return an attack's chip if it is worse than the one known, replayed from its file."""
    if not bench.runtime.task.is_worse(attack.score, worst.score):
        return worst
    replayed, note = confirm(
        bench.runtime, bench.box, attack.pattern, attack.score, workers=bench.workers
    )
    score = replayed if bench.runtime.converters is None else attack.score
    row = MemberScore("short_attack", attack.score, attack.passes)
    return replace(
        worst,
        score=score,
        file_score=replayed,
        member=f"short attack {attack.origin}",
        pattern=attack.pattern,
        replay_note=note,
        members=(*worst.members, row),
    )


def _carried_up(subject: Subject, known: list[Worst]) -> list[Worst]:
    """Let every tolerance take over the worst chip of the one below, which its box holds too."""
    for position, (smaller, larger) in enumerate(pairwise(list(known))):
        smaller = known[position]
        box = box_of(subject.at(larger.tolerance)[1])
        inside = all(
            np.array_equal(box.clip(smaller.pattern)[name], deviation)
            for name, deviation in smaller.pattern.items()
        )
        if inside and subject.runtime.task.is_worse(smaller.score, larger.score):
            known[position + 1] = replace(
                larger,
                score=smaller.score,
                file_score=smaller.file_score,
                member=f"the chip at {100 * smaller.tolerance:.4g} %",
                pattern=smaller.pattern,
                replay_note=smaller.replay_note,
            )
    return known


def _name(stage: str, tolerance: float) -> str:
    return f"{stage}-{tolerance!r}"


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
