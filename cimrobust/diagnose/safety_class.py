"""Diagnostic: the safety class.

One class whose recall alone is minimised, with a whole search of its own.
"""

from __future__ import annotations

from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.subject_parts import part_of
from cimrobust.data.class_samples import samples_of
from cimrobust.diagnose.classes import PLANS, known_patterns, without_classes, worst_for
from cimrobust.diagnose.diagnosis_results import SafetyClass
from cimrobust.search.ensemble import search

NAME = "safety_class"
#: Effort of the search on the samples of the class.
_EFFORT = {"quick": "quick", "standard": "quick", "thorough": "standard"}


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
