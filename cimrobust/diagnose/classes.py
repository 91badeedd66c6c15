"""Diagnostic: the worst chip for one class.

For each class, a pattern that lowers the recall of that class and of no other in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cimrobust.attack.attack import Attack, Plan
from cimrobust.attack.diagnosis_protocol import Case, Diagnostic, Finding, Settings
from cimrobust.data.task import Task
from cimrobust.diagnose.diagnose_records import ClassAttack, ClassAttacks
from cimrobust.mapping.box import Pattern

NAME = "classes"
WORST = "the worst pattern"
#: Classes that are attacked; of more, those that the probe says are worst.
MOST_CLASSES = 10
PLANS = {
    "quick": Plan(warm=8, fresh=8, evaluations=80),
    "standard": Plan(warm=12, fresh=20, evaluations=240),
    "thorough": Plan(warm=60, fresh=90, evaluations=1200),
}
_PROBE = Plan(warm=1, fresh=1, evaluations=8)


def samples_of(task: Task, label: int) -> np.ndarray:
    """Return the indices of the samples of a class."""
    return np.flatnonzero(task.labels == label)


def without_classes(case: Case, settings: Settings) -> str:
    """Return why there are no classes to attack, or nothing."""
    task = case.runtime.task
    if task.is_regression:
        return "a regression has no classes"
    return (
        ""
        if task.labels.ndim == 1
        else "every sample has several decisions, so no sample belongs to one class"
    )


def known_patterns(case: Case) -> dict[str, Pattern]:
    """Return what the search and earlier diagnostics found, layers that are not named exact."""
    zero = case.bench.box.zero()
    found = {origin: {**zero, **pattern} for origin, pattern in case.patterns.items()}
    return {WORST: dict(case.found.deviations), **found}


def _run(case: Case, settings: Settings) -> Finding:
    present = [int(label) for label in np.unique(case.runtime.task.labels)]
    settings.progress.start(
        CLASSES.title,
        min(len(present), MOST_CLASSES) + (len(present) if len(present) > MOST_CLASSES else 0),
    )
    attacked, passes, evaluations = _worst_by_probe(case, settings, present)
    plan, rows, kept = PLANS[settings.effort], [], {}
    starts = known_patterns(case)
    for label in attacked:
        row, pattern, spent = _attack(case, plan, starts, label)
        passes, evaluations = passes + spent[0], evaluations + spent[1]
        kept[f"class {label}"] = pattern
        rows.append(row)
        settings.progress.advance(1, f"class {label}: recall {row.recall:.4g}")
    rows.sort(key=lambda row: row.recall)
    left_out = tuple(label for label in present if label not in attacked)
    found = ClassAttacks(
        rows=tuple(rows), classes=len(present), left_out=left_out, passes_each=plan.steps
    )
    return Finding(found, passes, evaluations, kept)


def _worst_by_probe(
    case: Case, settings: Settings, present: list[int]
) -> tuple[list[int], int, int]:
    """Return the classes to attack, and the passes and evaluations that choosing them took."""
    if len(present) <= MOST_CLASSES:
        return present, 0, 0
    probed, passes, evaluations = [], 0, 0
    starts = {WORST: dict(case.found.deviations)}
    for label in present:
        attack = case.bench.attack(
            NAME,
            box=case.bench.box,
            plan=_PROBE,
            starts=starts,
            part=samples_of(case.runtime.task, label),
        )
        passes, evaluations = passes + attack.passes, evaluations + attack.evaluations
        probed.append((attack.score.value, label))
        settings.progress.advance(1)
    return sorted(label for _, label in sorted(probed)[:MOST_CLASSES]), passes, evaluations


def _attack(
    case: Case, plan: Plan, starts: Mapping[str, Pattern], label: int
) -> tuple[ClassAttack, Pattern, tuple[int, int]]:
    part = samples_of(case.runtime.task, label)
    attack = worst_for(case, plan, starts, part)
    runtime, task = case.runtime, case.runtime.task
    zero = case.bench.box.weights(case.bench.box.zero())
    clean = runtime.score(zero, subset=part, threads=case.bench.workers)
    overall = runtime.score(case.bench.box.weights(attack.pattern), threads=case.bench.workers)
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
    return row, attack.pattern, (attack.passes, attack.evaluations + 2)


def worst_for(case: Case, plan: Plan, starts: Mapping[str, Pattern], part: np.ndarray) -> Attack:
    """Attack the samples of a class from zero, and from known patterns only where that leaves some right.

    Known patterns are bad for every class; one made for this class alone shows what can happen to
    it while all others are well.
    """
    bench = case.bench
    fresh = bench.attack(NAME, box=bench.box, plan=replace(plan, warm=0), starts={}, part=part)
    if fresh.score.count == 0:
        return fresh
    known = bench.attack(
        NAME,
        box=bench.box,
        plan=replace(plan, fresh=0),
        starts={**starts, "the attack from zero": fresh.pattern},
        part=part,
    )
    return replace(
        known, passes=fresh.passes + known.passes, evaluations=fresh.evaluations + known.evaluations
    )


def decided_in(task: Task, output: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the decisions of some samples, int64 [samples]."""
    return replace(task, labels=task.labels[part]).decide(output)


def _most_often(decided: np.ndarray, label: int) -> int | None:
    wrong = decided[(decided != label) & (decided >= 0)]
    return int(np.bincount(wrong).argmax()) if wrong.size else None


CLASSES = Diagnostic(NAME, "Worst case by class", _run, applies=without_classes)
