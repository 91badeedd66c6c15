"""Diagnostic: the safety class.

One class whose recall alone is minimised, with a whole search of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cimrobust.attack.case_parts import part_of
from cimrobust.attack.diagnosis_protocol import Case, Diagnostic, Finding, Settings
from cimrobust.data.decision import Score
from cimrobust.data.task import Task
from cimrobust.diagnose.classes import PLANS, known_patterns, samples_of, without_classes, worst_for
from cimrobust.errors import UsageError
from cimrobust.search.ensemble import search

NAME = "safety_class"
#: Effort of the search on the samples of the class.
_EFFORT = {"quick": "quick", "standard": "quick", "thorough": "standard"}


@dataclass(frozen=True)
class SafetyClass:
    """The worst recall found of one class, replayed from a model file.

    Attributes:
        label: The class.
        clean: Its recall without deviation.
        found: Its worst recall found; a run of the witness file, with converters of the kernel.
        overall: Score of all samples on the same chip.
        member: What found the pattern.
        deviations: The pattern.
        effort: Effort of the search.
        passes: Its forward-backward passes, over the samples of the class.
        has_twin: Whether it had gradients.
        replay_note: How the replay was run.
    """

    label: int
    clean: Score
    found: Score
    overall: Score
    member: str
    deviations: Mapping[str, np.ndarray]
    effort: str
    passes: int
    has_twin: bool
    replay_note: str


def check_safety_class(task: Task, label: int) -> None:
    """Check that a class can be attacked.

    Raises:
        UsageError: There is no such class, or no sample of it.
    """
    if task.num_classes is None or task.labels.ndim != 1:
        what = "a regression" if task.is_regression else "samples with several decisions"
        raise UsageError(
            f"safety class needs one decision a sample, got {what} (--safety-class); leave the"
            " option out"
        )
    if not 0 <= label < task.num_classes or not samples_of(task, label).size:
        there = ", ".join(str(value) for value in np.unique(task.labels)[:20])
        raise UsageError(
            f"safety class must be a class with samples, got {label} (--safety-class); labels of"
            f" these samples: {there}"
        )


def _run(case: Case, settings: Settings) -> Finding:
    assert settings.safety_class is not None
    label = settings.safety_class
    part = samples_of(case.runtime.task, label)
    bench = case.bench
    short = worst_for(case, PLANS[settings.effort], known_patterns(case), part)
    found = search(
        part_of(case.runtime, case.placement, part, workers=settings.workers),
        case.placement,
        effort=_EFFORT[settings.effort],
        seed=settings.seed,
        workers=settings.workers,
        progress=settings.progress,
        device_type=settings.device_type,
        starts={"short_attack": short.pattern},
    )
    overall = case.runtime.score(bench.box.weights(found.deviations), threads=settings.workers)
    clean = case.runtime.score(
        bench.box.weights(bench.box.zero()), subset=part, threads=settings.workers
    )
    result = SafetyClass(
        label=label,
        clean=clean,
        found=found.score,
        overall=overall,
        member=found.member,
        deviations=found.deviations,
        effort=found.effort,
        passes=short.passes + found.passes,
        has_twin=found.has_twin,
        replay_note=found.replay_note,
    )
    kept = {f"safety class {label}": dict(found.deviations)}
    return Finding(result, result.passes, short.evaluations + found.evaluations + 2, kept)


def _applies(case: Case, settings: Settings) -> str:
    return (
        without_classes(case, settings)
        if settings.safety_class is not None
        else "no safety class was given (--safety-class)"
    )


SAFETY_CLASS = Diagnostic(NAME, "Safety class", _run, applies=_applies, is_optional=False)
