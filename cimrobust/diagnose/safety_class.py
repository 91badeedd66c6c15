"""Diagnostic: the safety class.

One class whose recall alone is minimised, with a whole search of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cimrobust.array_shapes import Float32
from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.subject_parts import part_of
from cimrobust.data.class_samples import samples_of
from cimrobust.data.decision import Score
from cimrobust.diagnose.classes import PLANS, known_patterns, without_classes, worst_for
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
    deviations: Mapping[str, Float32[np.ndarray, "..."]]
    effort: str
    passes: int
    has_twin: bool
    replay_note: str


def _run(request: DiagnosisRequest) -> Finding:
    assert request.safety_class is not None
    label, run = request.safety_class, request.run
    part = samples_of(request.runtime.task, label)
    short = worst_for(request.context, PLANS[run.effort], known_patterns(request), part)
    found = search(
        part_of(request.subject, part, workers=run.workers),
        run.at_effort(_EFFORT[run.effort]),
        starts={"short_attack": short.pattern},
        parts=request.context.parts.within("safety_class", part),
    )
    score, box = request.runtime.score, request.box
    overall = score(box.weights(found.deviations), threads=run.workers)
    clean = score(box.weights(box.zero()), subset=part, threads=run.workers)
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
    return Finding(result, result.passes, short.runs + found.evaluations + 2, kept)


def _applies(request: DiagnosisRequest) -> str:
    return (
        without_classes(request)
        if request.safety_class is not None
        else "no safety class was given (--safety-class)"
    )


SAFETY_CLASS = Diagnostic(
    NAME, "Safety class", _run, applies=_applies, is_optional=False, gives=SafetyClass
)
