"""Runs the diagnostics that were asked for, one after the other, and keeps the books."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.diagnosis_protocol import (
    Diagnosis,
    DiagnosisRequest,
    Diagnostic,
    Finding,
    Outcome,
)
from cimrobust.diagnose.diagnostic_catalogue import DIAGNOSTICS
from cimrobust.engine.subject import Subject
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.box import Box, Pattern
from cimrobust.run import Run
from cimrobust.search.search_results import MemberResult, SearchResult
from cimrobust.search.witness_replay import confirm

NOT_CHOSEN = "not asked for (--diagnostics)"


def diagnose(
    subject: Subject,
    run: Run,
    found: SearchResult,
    names: Collection[str],
    *,
    required: float | None = None,
    safety_class: int | None = None,
) -> Diagnosis:
    """Run diagnostics.

    Args:
        subject: The network, its data, and where its weights are stored.
        run: How to compute.
        found: The worst pattern found by the search.
        names: Diagnostics that were chosen.
        required: Score that the policy asks of the worst chip; None: it asks nothing.
        safety_class: Class whose recall must not fall; None: no class is special.

    Raises:
        SelfCheckError: A pattern left its box.
    """
    request = DiagnosisRequest(
        AttackContext(subject, run), found, required=required, safety_class=safety_class
    )
    runtime = subject.runtime
    broken = None if runtime.task.is_regression else np.zeros(runtime.task.labels.shape, dtype=bool)
    outcomes = []
    for diagnostic in DIAGNOSTICS:
        outcome, finding = _run(diagnostic, request, names)
        if finding is not None:
            kept = {
                origin: _whole(subject.box, pattern) for origin, pattern in finding.patterns.items()
            }
            request = replace(
                request,
                found=_adopt(request, diagnostic, finding, outcome, kept, broken),
                patterns={**request.patterns, **finding.patterns},
            )
            if broken is not None and finding.broken is not None:
                broken |= finding.broken
            outcome = replace(outcome, evaluations=outcome.evaluations + len(kept))
        outcomes.append(outcome)
    run.progress.finish()
    return Diagnosis(tuple(outcomes), request.found, broken)


def _run(
    diagnostic: Diagnostic, request: DiagnosisRequest, names: Collection[str]
) -> tuple[Outcome, Finding | None]:
    """Run one diagnostic, or say why it does not run."""
    if diagnostic.is_optional and diagnostic.name not in names:
        return Outcome(diagnostic.name, None, NOT_CHOSEN), None
    without = diagnostic.applies(request)
    if without:
        return Outcome(diagnostic.name, None, without), None
    begin = time.perf_counter()
    try:
        finding = diagnostic.run(request)
    except SelfCheckError:
        raise
    except (CimrobustError, RuntimeError) as err:
        return (
            Outcome(diagnostic.name, None, f"gave up: {err}", seconds=time.perf_counter() - begin),
            None,
        )
    return (
        Outcome(
            diagnostic.name,
            finding.result,
            "",
            finding.passes,
            finding.evaluations,
            time.perf_counter() - begin,
        ),
        finding,
    )


def _whole(box: Box, pattern: Mapping[str, np.ndarray]) -> Pattern:
    """Return a pattern with zeros for the layers that it does not name."""
    return {**box.zero(), **pattern}


def _adopt(
    request: DiagnosisRequest,
    diagnostic: Diagnostic,
    finding: Finding,
    outcome: Outcome,
    kept: Mapping[str, Pattern],
    broken: np.ndarray | None,
) -> SearchResult:
    """Score the patterns that a diagnostic keeps on all samples.

    Note what they break, and take over one that beats the search.
    """
    runtime, box, task, found = request.runtime, request.box, request.runtime.task, request.found
    for origin, pattern in kept.items():
        box.check(pattern, origin=origin)
        output = runtime.outputs(box.weights(pattern), threads=request.run.workers)
        if broken is not None:
            broken |= ~task.right(output)
        score = task.score(output)
        if task.is_worse(score, found.engine_score):
            replayed, note = confirm(runtime, box, pattern, score, workers=request.run.workers)
            row = MemberResult(
                f"diagnostic_{diagnostic.name}",
                score,
                outcome.seconds,
                finding.passes,
                finding.evaluations,
                f"after the search: {origin}",
            )
            found = replace(
                found,
                score=replayed if runtime.converters is None else score,
                file_score=replayed,
                member=row.name,
                deviations=pattern,
                members=(*(member for member in found.members if member.name != row.name), row),
                engine_score=score,
                replay_note=note,
            )
    return found
