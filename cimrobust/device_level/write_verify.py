"""Selective write-verify.

Which devices to programme more tightly, and what that buys against the worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cimrobust.attack.box_attack import AttackPlan, BoxAttack, attack_box
from cimrobust.attack.diagnosis_protocol import Case, Diagnostic, Finding, Settings
from cimrobust.data.decision import Score
from cimrobust.device_level.device_level_records import VerifyRow
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
from cimrobust.device_level.verification import RANKINGS, Verification, VerifySettings
from cimrobust.engine.open import Runtime
from cimrobust.mapping.box import Box, Pattern, box_of
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.gradients import Opened
from cimrobust.search.losses import CrossEntropy, Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.search.problem import UNLIMITED, Problem
from cimrobust.seeds import stream

_WITHOUT_TWIN = ("slice", "magnitude", "random")


@dataclass
class _Bench:
    """What all attacks of one comparison share; counts what they cost."""

    runtime: Runtime
    opened: Opened
    tightening: Tightening
    worst: Pattern
    settings: VerifySettings
    seed: int
    workers: int
    progress: Progress
    passes: int = 0
    evaluations: int = 0

    def attack(self, box: Box, known: Mapping[str, Pattern], plan: AttackPlan) -> BoxAttack:
        """Attack a box from scratch and from known patterns."""
        problem = self.problem(box)
        found = attack_box(problem, known, plan)
        self.count(problem)
        return found

    def problem(self, box: Box) -> Problem:
        """Return a search problem over a box."""
        return Problem(
            self.runtime,
            box,
            self.opened.crafting,
            self.opened.oracle,
            self.seed,
            self.workers,
            NullProgress(),
            most_passes=UNLIMITED,
        )

    def count(self, problem: Problem) -> None:
        """Add what a problem cost."""
        self.passes += problem.passes
        self.evaluations += problem.evaluations

    @property
    def losses(self) -> list[Loss]:
        """Losses that rankings take gradients of."""
        task = self.runtime.task
        return (
            [RegressionError(task.metric)]
            if task.is_regression
            else [SmoothAccuracy(0.25), Hinge(0.0), CrossEntropy()]
        )


def selective_verify(
    runtime: Runtime,
    placement: Placement,
    scan: LayerScan,
    opened: Opened,
    worst: Mapping[str, np.ndarray],
    *,
    settings: VerifySettings | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Verification:
    """Compare rankings of devices to verify more tightly by the worst score that is found afterwards.

    For every ranking and share the devices' intervals shrink, with them the box of every weight,
    and that box is attacked from scratch, from the worst pattern of the full box, and from the
    worst pattern of the next larger share, whose box lies inside: so more verification never looks
    worse.

    Args:
        runtime: The network and its data.
        placement: Where its weights are stored.
        scan: Its crossbar layers.
        opened: Its twin and crafting samples.
        worst: The worst pattern found inside the full box.
        settings: What is asked; None: the defaults.
        seed: Seed of the run.
        workers: Threads; no result depends on it.
        progress: Told of every attack.
    """
    settings, told = settings or VerifySettings(), progress or NullProgress()
    tightening = Tightening(DeviceSpace(placement, scan), settings.factor)
    bench = _Bench(runtime, opened, tightening, dict(worst), settings, seed, workers, told)
    names = [
        name
        for name in RANKINGS
        if name in settings.rankings and (opened.oracle is not None or name in _WITHOUT_TWIN)
    ]
    attacks = len(names) + ("random" in names) * (settings.draws - 1)
    told.start("Selective write-verify", attacks * len(settings.shares) + 1)
    full = bench.attack(box_of(placement), {"the worst pattern": bench.worst}, settings.plan)
    told.advance(1, f"{full.score.value:.4g} without")
    tables = {name: _tables(bench, name, full) for name in names}
    told.finish()
    worst_of_all = _worst(
        bench,
        [full, *(attack for runs in tables.values() for _, found in runs for attack in found)],
    )
    rows = [
        row for name, runs in tables.items() for row in _rows(bench, name, runs, worst_of_all.score)
    ]
    best = _best(rows, names, higher_is_better=runtime.task.higher_is_better)
    score = tables[best][0][0]
    order = np.argsort(-score, kind="stable")
    sizes = np.diff(tightening.space.starts)
    low, high = (
        settings.cycles.mean_of(tightening.tolerances / factor, sizes)
        for factor in (1.0, settings.factor)
    )
    return Verification(
        base=worst_of_all.score,
        rows=tuple(rows),
        order=order,
        gain=score[order],
        best=best,
        factor=settings.factor,
        writes=(low, high),
        write_sigma=settings.cycles.write_sigma,
        draws=settings.draws,
        crafting_samples=len(opened.crafting),
        passes=bench.passes,
        evaluations=bench.evaluations,
        # A border of a tighter box may round to the other side of the full one's.
        pattern=box_of(placement).clip(worst_of_all.pattern),
    )


def _worst(bench: _Bench, attacks: Iterable[BoxAttack]) -> BoxAttack:
    sign = 1.0 if bench.runtime.task.higher_is_better else -1.0
    return min(attacks, key=lambda attack: sign * attack.score.value)


def chosen_devices(score: np.ndarray, share: float) -> np.ndarray:
    """Return which devices a share of the best ranked are, bool [devices].

    Equal ones by number, at least one device.
    """
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(-score, kind="stable")[: max(round(share * score.size), 1)]] = True
    return chosen


def _tables(bench: _Bench, name: str, full: BoxAttack) -> list[tuple[np.ndarray, list[BoxAttack]]]:
    """Return the scores of a ranking and the attack of every share, largest share first.

    For random rankings of every draw.
    """
    draws = bench.settings.draws if name == "random" else 1
    runs = []
    for draw in range(draws):
        score = _score(bench, name, full, draw)
        known = {"the worst pattern": full.pattern}
        found: list[BoxAttack] = []
        for share in reversed(bench.settings.shares):
            attack = bench.attack(
                bench.tightening.box(chosen_devices(score, share)), known, bench.settings.plan
            )
            known = {"the worst pattern": full.pattern, "a larger share": attack.pattern}
            found.append(attack)
            bench.progress.advance(1, f"{name} {100 * share:g} %: {attack.score.value:.4g}")
        runs.append((score, found))
    return runs


def _score(bench: _Bench, name: str, full: BoxAttack, draw: int) -> np.ndarray:
    """Return the scores that a ranking gives all devices, larger first."""
    problem = bench.problem(box_of(bench.tightening.space.placement))
    score = _ranking(bench, problem, name, full, draw)
    bench.count(problem)
    return score


def _ranking(bench: _Bench, problem: Problem, name: str, full: BoxAttack, draw: int) -> np.ndarray:
    tightening = bench.tightening

    def random(*names: str | int) -> np.random.Generator:
        return stream(bench.seed, "write verify", name, *names)

    if name == "random":
        return at_random(tightening, random(draw))
    if name == "slice":
        return by_slice(tightening, random())
    if name == "magnitude":
        return by_magnitude(tightening)
    if name == "second_derivative":
        return by_curvature(problem, tightening, random)
    if name == "gain":
        return by_gain(problem, tightening, full.points[:3], bench.losses)

    def attack(score: np.ndarray, share: float) -> Pattern:
        box = tightening.box(chosen_devices(score, share))
        return bench.attack(
            box, {"the worst pattern": full.pattern}, bench.settings.plan.scaled(0.5)
        ).pattern

    return by_worst_curvature(problem, tightening, full.points[:2], attack, random)


def _rows(
    bench: _Bench, name: str, runs: list[tuple[np.ndarray, list[BoxAttack]]], base: Score
) -> list[VerifyRow]:
    settings = bench.settings
    sign = 1.0 if bench.runtime.task.higher_is_better else -1.0
    rows = []
    for index, share in enumerate(reversed(settings.shares)):
        found = [attacks[index] for _, attacks in runs]
        chosen = [chosen_devices(order, share) for order, _ in runs]
        worst = _worst(bench, found)
        score = float(np.mean([attack.score.value for attack in found]))
        devices = int(chosen[0].sum())
        extra = float(
            np.mean([settings.cycles.relative_extra(bench.tightening, part) for part in chosen])
        )
        regained = sign * (score - base.value)
        rows.append(
            VerifyRow(
                ranking=name,
                share=share,
                devices=devices,
                score=score,
                regained=regained,
                extra_writes=extra,
                regained_per_write=regained / extra if extra > 0 else 0.0,
                origin=worst.origin,
            )
        )
    return rows[::-1]


def _best(rows: list[VerifyRow], names: list[str], *, higher_is_better: bool) -> str:
    """Return the ranking with the best mean score; of equal ones the first."""
    sign = 1.0 if higher_is_better else -1.0
    means = {
        name: float(np.mean([sign * row.score for row in rows if row.ranking == name]))
        for name in names
    }
    return max(names, key=lambda name: means[name])


def _run(case: Case, settings: Settings) -> Finding:
    found = selective_verify(
        case.runtime,
        case.placement,
        case.scan,
        case.bench.opened,
        case.found.deviations,
        settings=_EFFORTS[settings.effort],
        seed=settings.seed,
        workers=settings.workers,
        progress=settings.progress,
    )
    return Finding(
        found, found.passes, found.evaluations, {"selective verification": found.pattern}
    )


def _applies(case: Case, settings: Settings) -> str:
    saved = Tightening(DeviceSpace(case.placement, case.scan), 10.0).saved_range
    return (
        ""
        if saved.any()
        else "devices have no programming error that tighter verification could take away"
    )


_EFFORTS = {
    "quick": VerifySettings(
        (0.05, 0.2),
        draws=1,
        plan=AttackPlan().scaled(0.3),
        rankings=("worst_case", "second_derivative", "magnitude", "random"),
    ),
    "standard": VerifySettings((0.01, 0.05, 0.2), draws=1, plan=AttackPlan().scaled(0.4)),
    "thorough": VerifySettings(plan=AttackPlan().scaled(2.0)),
}

WRITE_VERIFY = Diagnostic("write_verify", "Selective write-verify", _run, _applies)
