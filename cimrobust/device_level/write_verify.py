"""Selective write-verify.

Which devices to programme more tightly, and what that buys against the worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.device_level.attacked_rankings import (
    Comparison,
    Ranked,
    attack_ranking,
    attack_rankings_elsewhere,
    chosen_devices,
)
from cimrobust.device_level.device_level_records import VerifyRow
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.tightening import Tightening
from cimrobust.device_level.verification import RANKINGS, Verification, VerifySettings
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.attack.attack import Attack
    from cimrobust.attack.attack_context import AttackContext
    from cimrobust.cluster.executor import Executor
    from cimrobust.data.decision import Score
    from cimrobust.device_level.attacked_rankings import Order

_WITHOUT_TWIN = ("slice", "magnitude", "random")


def selective_verify(
    context: AttackContext,
    worst: Mapping[str, Float32[np.ndarray, "..."]],
    *,
    settings: VerifySettings | None = None,
    executor: Executor | None = None,
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
        executor: Where rankings are attacked; None: in this process, one after the other.

    Raises:
        CimrobustError: A worker refuses to work, or the cluster is gone.
    """
    settings, progress, subject = (
        settings or VerifySettings(),
        context.run.progress,
        context.subject,
    )
    tightening = Tightening(DeviceSpace(subject.placement, subject.scan), settings.factor)
    comparison = Comparison(context, tightening, settings)
    names, orders = _asked(context, settings)
    progress.start("Selective write-verify", len(orders) * len(settings.shares) + 1)
    full = comparison.attack(None, {"the worst pattern": dict(worst)})
    progress.advance(1, f"{full.score.value:.4g} without")
    if executor is None:
        runs = [attack_ranking(comparison, full, order) for order in orders]
    else:
        runs = attack_rankings_elsewhere(comparison, full, orders, executor)
    tables: dict[str, list[Ranked]] = {name: [] for name in names}
    for (name, _), ranked in zip(orders, runs, strict=True):
        tables[name].append(ranked)
    progress.finish()
    worst_of_all = _worst(
        comparison,
        [full, *(attack for ranked in runs for attack in ranked.attacks)],
    )
    rows = [
        row
        for name, made in tables.items()
        for row in _rows(comparison, name, made, worst_of_all.score)
    ]
    best = _best(rows, names, higher_is_better=comparison.task.higher_is_better)
    score = tables[best][0].score
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


def _asked(context: AttackContext, settings: VerifySettings) -> tuple[list[str], list[Order]]:
    """Return the rankings that are asked for and can be made, and all draws of them."""
    names = [
        name
        for name in RANKINGS
        if name in settings.rankings and (context.has_gradient or name in _WITHOUT_TWIN)
    ]
    return names, [
        (name, draw) for name in names for draw in range(settings.draws if name == "random" else 1)
    ]


def _worst(comparison: Comparison, attacks: Iterable[Attack]) -> Attack:
    sign = 1.0 if comparison.task.higher_is_better else -1.0
    return min(attacks, key=lambda attack: sign * attack.score.value)


def _rows(
    comparison: Comparison,
    name: str,
    runs: list[Ranked],
    base: Score,
) -> list[VerifyRow]:
    settings = comparison.settings
    sign = 1.0 if comparison.task.higher_is_better else -1.0
    rows = []
    for index, share in enumerate(reversed(settings.shares)):
        found = [ranked.attacks[index] for ranked in runs]
        chosen = [chosen_devices(ranked.score, share) for ranked in runs]
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
