"""Selective write-verify.

Which devices to programme more tightly, and what that buys against the worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import FULL_ATTACK, AttackPlan
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
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
from cimrobust.records import finite
from cimrobust.search.losses import CrossEntropy, Hinge, Loss, RegressionError, SmoothAccuracy
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.attack.attack import Attack
    from cimrobust.data.decision import Score
    from cimrobust.data.task import Task
    from cimrobust.mapping.box import Box, Pattern
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.scorer import Scorer

_WITHOUT_TWIN = ("slice", "magnitude", "random")


@dataclass
class _Comparison:
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


def selective_verify(
    context: AttackContext,
    worst: Mapping[str, Float32[np.ndarray, "..."]],
    *,
    settings: VerifySettings | None = None,
) -> Verification:
    """Compare rankings of devices to verify more tightly by the worst score found afterwards.

    For every ranking and share the devices' intervals shrink, with them the box of every weight,
    and that box is attacked from scratch, from the worst pattern of the full box, and from the
    worst pattern of the next larger share, whose box lies inside: so more verification never looks
    worse.

    Args:
        context: The network, how to compute, and its twin.
        worst: The worst pattern found inside the full box.
        settings: What is asked; None: the defaults.
    """
    settings, progress, subject = (
        settings or VerifySettings(),
        context.run.progress,
        context.subject,
    )
    tightening = Tightening(DeviceSpace(subject.placement, subject.scan), settings.factor)
    comparison = _Comparison(context, tightening, settings)
    names = [
        name
        for name in RANKINGS
        if name in settings.rankings and (context.has_gradient or name in _WITHOUT_TWIN)
    ]
    attacks = len(names) + ("random" in names) * (settings.draws - 1)
    progress.start("Selective write-verify", attacks * len(settings.shares) + 1)
    full = comparison.attack(None, {"the worst pattern": dict(worst)})
    progress.advance(1, f"{full.score.value:.4g} without")
    tables = {name: _tables(comparison, name, full) for name in names}
    progress.finish()
    worst_of_all = _worst(
        comparison,
        [full, *(attack for runs in tables.values() for _, found in runs for attack in found)],
    )
    rows = [
        row
        for name, runs in tables.items()
        for row in _rows(comparison, name, runs, worst_of_all.score)
    ]
    best = _best(rows, names, higher_is_better=comparison.task.higher_is_better)
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
        crafting_samples=len(context.twin.attack_set),
        passes=comparison.passes,
        evaluations=comparison.evaluations,
        # A border of a tighter box may round to the other side of the full one's.
        pattern=subject.box.clip(worst_of_all.pattern),
    )


def _worst(comparison: _Comparison, attacks: Iterable[Attack]) -> Attack:
    sign = 1.0 if comparison.task.higher_is_better else -1.0
    return min(attacks, key=lambda attack: sign * attack.score.value)


def chosen_devices(
    score: Float64[np.ndarray, "devices"], share: float
) -> Bool[np.ndarray, "devices"]:
    """Return which devices a share of the best ranked are, bool [devices].

    Equal ones by number, at least one device.
    """
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(-score, kind="stable")[: max(round(share * score.size), 1)]] = True
    return chosen


def _tables(
    comparison: _Comparison, name: str, full: Attack
) -> list[tuple[Float64[np.ndarray, "devices"], list[Attack]]]:
    """Return the scores of a ranking and the attack of every share, largest share first.

    For random rankings of every draw.
    """
    draws = comparison.settings.draws if name == "random" else 1
    runs = []
    for draw in range(draws):
        score = _score(comparison, name, full, draw)
        known = {"the worst pattern": full.pattern}
        found: list[Attack] = []
        for share in reversed(comparison.settings.shares):
            attack = comparison.attack(
                comparison.tightening.box(chosen_devices(score, share)), known
            )
            known = {"the worst pattern": full.pattern, "a larger share": attack.pattern}
            found.append(attack)
            comparison.context.run.progress.advance(
                1, f"{name} {100 * share:g} %: {attack.score.value:.4g}"
            )
        runs.append((score, found))
    return runs


def _score(
    comparison: _Comparison, name: str, full: Attack, draw: int
) -> Float64[np.ndarray, "devices"]:
    """Return the scores that a ranking gives all devices, larger first."""
    scorer = comparison.context.scorer()
    score = _ranking(comparison, scorer, name, full, draw)
    comparison.count(scorer.ledger)
    return score


def _ranking(
    comparison: _Comparison, scorer: Scorer, name: str, full: Attack, draw: int
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


def _rows(
    comparison: _Comparison,
    name: str,
    runs: list[tuple[Float64[np.ndarray, "devices"], list[Attack]]],
    base: Score,
) -> list[VerifyRow]:
    settings = comparison.settings
    sign = 1.0 if comparison.task.higher_is_better else -1.0
    rows = []
    for index, share in enumerate(reversed(settings.shares)):
        found = [attacks[index] for _, attacks in runs]
        chosen = [chosen_devices(order, share) for order, _ in runs]
        worst = _worst(comparison, found)
        score = finite(float(np.mean([attack.score.value for attack in found])))
        devices = int(chosen[0].sum())
        extra = float(
            np.mean(
                [settings.cycles.relative_extra(comparison.tightening, part) for part in chosen]
            )
        )
        regained = sign * (score - finite(base.value))
        rows.append(
            VerifyRow(
                ranking=name,
                share=share,
                devices=devices,
                score=score,
                regained=regained,
                extra_writes=extra,
                regained_per_write=finite(regained / extra) if extra > 0 else 0.0,
                origin=worst.origin,
            )
        )
    return rows[::-1]


def _best(rows: list[VerifyRow], names: list[str], *, higher_is_better: bool) -> str:
    """Return the ranking with the best mean score; of equal ones the first."""
    sign = 1.0 if higher_is_better else -1.0
    with np.errstate(over="ignore"):  # of errors without end
        means = {
            name: float(np.mean([sign * row.score for row in rows if row.ranking == name]))
            for name in names
        }
    return max(names, key=lambda name: means[name])


def _run(request: DiagnosisRequest) -> Finding:
    found = selective_verify(
        request.context, request.found.deviations, settings=_EFFORTS[request.run.effort]
    )
    return Finding(
        found, found.passes, found.evaluations, {"selective verification": found.pattern}
    )


def _applies(request: DiagnosisRequest) -> str:
    space = DeviceSpace(request.subject.placement, request.subject.scan)
    return (
        ""
        if Tightening(space, 10.0).saved_range.any()
        else "devices have no programming error that tighter verification could take away"
    )


_EFFORTS = {
    "quick": VerifySettings(
        (0.05, 0.2),
        draws=1,
        plan=FULL_ATTACK.scaled(0.3),
        rankings=("worst_case", "second_derivative", "magnitude", "random"),
    ),
    "standard": VerifySettings((0.01, 0.05, 0.2), draws=1, plan=FULL_ATTACK.scaled(0.4)),
    "thorough": VerifySettings(plan=FULL_ATTACK.scaled(2.0)),
}

WRITE_VERIFY = Diagnostic(
    "write_verify", "Selective write-verify", _run, _applies, gives=Verification
)
