"""Diagnostic: the worst chip for one class.

For each class, a pattern that lowers the recall of that class and of no other in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.attack.attack_plan import AttackPlan
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.data.class_samples import samples_of
from cimrobust.diagnose.diagnose_records import ClassAttack, ClassAttacks

if TYPE_CHECKING:
    from cimrobust.attack.attack import Attack
    from cimrobust.attack.attack_context import AttackContext
    from cimrobust.data.task import Task
    from cimrobust.mapping.box import Pattern

NAME = "classes"
WORST = "the worst pattern"
#: Classes that are attacked; of more, those that the probe says are worst.
MOST_CLASSES = 10
PLANS = {
    "quick": AttackPlan(known=8, zero=8, evaluations=80),
    "standard": AttackPlan(known=12, zero=20, evaluations=240),
    "thorough": AttackPlan(known=60, zero=90, evaluations=1200),
}
_PROBE = AttackPlan(known=1, zero=1, evaluations=8)


def without_classes(request: DiagnosisRequest) -> str:
    """Return why there are no classes to attack, or nothing."""
    task = request.runtime.task
    if task.is_regression:
        return "a regression has no classes"
    return (
        ""
        if task.labels.ndim == 1
        else "every sample has several decisions, so no sample belongs to one class"
    )


def known_patterns(request: DiagnosisRequest) -> dict[str, Pattern]:
    """Return what the search and earlier diagnostics found, layers that are not named exact."""
    zero = request.box.zero()
    found = {origin: {**zero, **pattern} for origin, pattern in request.patterns.items()}
    return {WORST: dict(request.found.deviations), **found}


def _run(request: DiagnosisRequest) -> Finding:
    present = [int(label) for label in np.unique(request.runtime.task.labels)]
    request.run.progress.start(
        CLASSES.title,
        min(len(present), MOST_CLASSES) + (len(present) if len(present) > MOST_CLASSES else 0),
    )
    attacked, passes, evaluations = _worst_by_probe(request, present)
    plan, rows, kept = PLANS[request.run.effort], [], {}
    starts = known_patterns(request)
    for label in attacked:
        row, pattern, spent = _attack(request, plan, starts, label)
        passes, evaluations = passes + spent[0], evaluations + spent[1]
        kept[f"class {label}"] = pattern
        rows.append(row)
        request.run.progress.advance(1, f"class {label}: recall {row.recall:.4g}")
    rows.sort(key=lambda row: row.recall)
    left_out = tuple(label for label in present if label not in attacked)
    found = ClassAttacks(
        rows=tuple(rows), classes=len(present), left_out=left_out, passes_each=plan.passes
    )
    return Finding(found, passes, evaluations, kept)


def _worst_by_probe(request: DiagnosisRequest, present: list[int]) -> tuple[list[int], int, int]:
    """Return the classes to attack, and the passes and evaluations that choosing them took."""
    if len(present) <= MOST_CLASSES:
        return present, 0, 0
    probed, passes, evaluations = [], 0, 0
    starts = {WORST: dict(request.found.deviations)}
    for label in present:
        part = samples_of(request.runtime.task, label)
        attack = request.context.attack(_PROBE, starts, part=part)
        passes, evaluations = passes + attack.passes, evaluations + attack.runs
        probed.append((attack.score.value, label))
        request.run.progress.advance(1)
    return sorted(label for _, label in sorted(probed)[:MOST_CLASSES]), passes, evaluations


def _attack(
    request: DiagnosisRequest, plan: AttackPlan, starts: Mapping[str, Pattern], label: int
) -> tuple[ClassAttack, Pattern, tuple[int, int]]:
    part = samples_of(request.runtime.task, label)
    attack = worst_for(request.context, plan, starts, part)
    runtime, task = request.runtime, request.runtime.task
    zero = request.box.weights(request.box.zero())
    clean = runtime.score(zero, subset=part, threads=request.run.workers)
    overall = runtime.score(request.box.weights(attack.pattern), threads=request.run.workers)
    row = ClassAttack(
        label=label,
        samples=attack.score.num_samples,
        clean=clean.value,
        clean_correct=clean.count or 0,
        recall=attack.score.value,
        correct=attack.score.count or 0,
        origin=attack.origin,
        overall=overall.value,
        becomes=_most_often(decided_in(task, attack.output, part), label),
    )
    return row, attack.pattern, (attack.passes, attack.runs + 2)


def worst_for(
    context: AttackContext,
    plan: AttackPlan,
    starts: Mapping[str, Pattern],
    part: Int64[np.ndarray, "some"],
) -> Attack:
    """Attack the samples of a class from zero, and from known patterns where some stay correct.

    Known patterns are bad for every class; one made for this class alone shows what can happen to
    it while all others are well.
    """
    fresh = context.attack(replace(plan, known=0), {}, part=part)
    if fresh.score.count == 0:
        return fresh
    starts = {**starts, "the attack from zero": fresh.pattern}
    again = context.attack(replace(plan, zero=0), starts, part=part)
    return replace(
        again,
        passes=fresh.passes + again.passes,
        evaluations=fresh.evaluations + again.evaluations,
        num_scored=fresh.num_scored + again.num_scored,
    )


def decided_in(
    task: Task, output: Shaped[np.ndarray, "some ..."], part: Int64[np.ndarray, "some"]
) -> Int64[np.ndarray, "some"]:
    """Return the decisions of some samples, int64 [samples]."""
    return replace(task, labels=task.labels[part]).decide(output)


def _most_often(decided: Int64[np.ndarray, "some"], label: int) -> int | None:
    wrong = decided[(decided != label) & (decided >= 0)]
    return int(np.bincount(wrong).argmax()) if wrong.size else None


CLASSES = Diagnostic(NAME, "Worst case by class", _run, applies=without_classes, gives=ClassAttacks)
