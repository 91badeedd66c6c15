"""Runs the diagnostics that were asked for, one after the other, and keeps the books.

To add one: a module with a `Diagnostic`, a line here and in `diagnostic_names.py`, a model and a
field of `Diagnostics` in `certificate/models`, a line in `certificate/blocks/diagnostics.py`, and a
template `report/templates/diagnostics/<name>.html.j2`.
"""

from __future__ import annotations

import time
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.diagnosis_protocol import (
    Diagnosis,
    DiagnosisRequest,
    Diagnostic,
    Finding,
    Outcome,
)
from cimrobust.available_memory import is_about_memory
from cimrobust.device_level.stuck import STUCK_DEVICES
from cimrobust.device_level.write_verify import WRITE_VERIFY
from cimrobust.diagnose.classes import CLASSES
from cimrobust.diagnose.diagnostic_names import NOT_CHOSEN
from cimrobust.diagnose.fragile_inputs import FRAGILE_INPUTS
from cimrobust.diagnose.fragile_layers import LAYERS
from cimrobust.diagnose.safety_class import SAFETY_CLASS
from cimrobust.diagnose.sample_transfer import TRANSFER
from cimrobust.diagnose.tolerance_curve import TOLERANCE_CURVE
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts, digest_of
from cimrobust.mapping.box import Box, Pattern
from cimrobust.search.packed_pattern import PackedPattern, pack, unpack
from cimrobust.search.search_results import MemberResult, SearchResult
from cimrobust.search.witness_replay import confirm

if TYPE_CHECKING:
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

#: The diagnostics there are, in the order in which they run: later ones may use the patterns of
#: earlier ones.
DIAGNOSTICS: tuple[Diagnostic, ...] = (
    LAYERS,
    CLASSES,
    SAFETY_CLASS,
    TRANSFER,
    TOLERANCE_CURVE,
    FRAGILE_INPUTS,
    STUCK_DEVICES,
    WRITE_VERIFY,
)


@dataclass(frozen=True)
class _Step:
    """What one diagnostic leaves.

    Attributes:
        outcome: What is reported of it.
        patterns: Patterns for later diagnostics.
        found: The worst pattern now.
        broken: Samples broken so far; None where none are told of.
    """

    outcome: Outcome
    patterns: Mapping[str, Pattern]
    found: SearchResult
    broken: Bool[np.ndarray, "samples"] | None


def diagnose(
    subject: Subject,
    run: Run,
    found: SearchResult,
    names: Collection[str],
    *,
    required: float | None = None,
    safety_class: int | None = None,
    left_out: str = "",
    without_bounds: str = "",
    parts: FinishedParts = NOTHING_KEPT,
) -> Diagnosis:
    """Run diagnostics.

    Args:
        subject: The network, its data, and where its weights are stored.
        run: How to compute.
        found: The worst pattern found by the search.
        names: Diagnostics that were chosen.
        required: Score that the policy asks of the worst chip; None: it asks nothing.
        safety_class: Class whose recall must not fall; None: no class is special.
        left_out: Why none of them runs; empty: they run.
        without_bounds: Why they may not take certified bounds; empty: they may.
        parts: Where finished diagnostics are kept and taken from; none changes the result.

    Raises:
        SelfCheckError: A pattern left its box.
    """
    request = DiagnosisRequest(
        AttackContext(subject, run, parts=parts.within("diagnostics", run.effort)),
        found,
        required=required,
        safety_class=safety_class,
        without_bounds=without_bounds,
    )
    runtime = subject.runtime
    broken = None if runtime.task.is_regression else np.zeros(runtime.task.labels.shape, dtype=bool)
    outcomes = []
    for diagnostic in DIAGNOSTICS:
        without = left_out or _without(diagnostic, request, names)
        if without:
            outcomes.append(Outcome(diagnostic.name, None, without))
            continue
        step = _known_or_made(diagnostic, request, broken, parts)
        outcomes.append(step.outcome)
        broken = step.broken
        request = replace(request, found=step.found, patterns={**request.patterns, **step.patterns})
    run.progress.finish()
    return Diagnosis(tuple(outcomes), request.found, broken)


def _without(diagnostic: Diagnostic, request: DiagnosisRequest, names: Collection[str]) -> str:
    """Return why a diagnostic does not run, or nothing."""
    if diagnostic.is_optional and diagnostic.name not in names:
        return NOT_CHOSEN
    return diagnostic.applies(request)


def _known_or_made(
    diagnostic: Diagnostic,
    request: DiagnosisRequest,
    broken: Bool[np.ndarray, "samples"] | None,
    parts: FinishedParts,
) -> _Step:
    """Take over what an interrupted run knows of a diagnostic, else run and keep it."""
    if not parts.keeps or diagnostic.gives is None:
        return _made(diagnostic, request, broken)
    found = request.found
    given = (
        (found.member, found.score, found.file_score, found.engine_score, found.deviations),
        (request.patterns, request.required, request.safety_class),
        (request.without_bounds, broken),
    )
    own = parts.within("diagnostic", request.run.effort, digest_of(given))
    # The type of the result is that of the diagnostic, so that of the part is made here.
    kind: Any = types.GenericAlias(tuple, (diagnostic.gives, KeptStep))
    box = request.box

    def check(part: tuple[Any, KeptStep]) -> None:
        result, kept = part
        for pattern in kept.patterns.values():
            unpack(box, pattern)
        for deviations in (
            getattr(result, "deviations", None),
            None if kept.found is None else kept.found.deviations,
        ):
            if deviations is not None:
                box.check(deviations, origin=diagnostic.name)

    known = own.find(diagnostic.name, kind, check)
    if known is not None:
        return _step_of(diagnostic, request, *known)
    step = _made(diagnostic, request, broken)
    if not step.outcome.reason:
        own.keep(diagnostic.name, (step.outcome.result, _kept_step(request, step)))
        request.context.parts.drop()
    return step


def _made(
    diagnostic: Diagnostic, request: DiagnosisRequest, broken: Bool[np.ndarray, "samples"] | None
) -> _Step:
    """Run one diagnostic; where it gives up, say why."""
    begin = time.perf_counter()
    try:
        finding = diagnostic.run(request)
        outcome = Outcome(
            diagnostic.name,
            finding.result,
            "",
            finding.passes,
            finding.evaluations + len(finding.patterns),
            time.perf_counter() - begin,
        )
        return _adopted(request, diagnostic, finding, outcome, broken)
    except SelfCheckError:
        raise
    except (CimrobustError, RuntimeError, MemoryError) as err:
        reason = (
            f"gave up: it needs more memory than there is: {err}"
            if is_about_memory(err)
            else f"gave up: {err}"
        )
        seconds = time.perf_counter() - begin
        outcome = Outcome(diagnostic.name, None, reason, seconds=seconds)
        return _Step(outcome, {}, request.found, broken)


def _whole(box: Box, pattern: Mapping[str, Float32[np.ndarray, "..."]]) -> Pattern:
    """Return a pattern with zeros for the layers that it does not name."""
    return {**box.zero(), **pattern}


def _adopted(
    request: DiagnosisRequest,
    diagnostic: Diagnostic,
    finding: Finding,
    outcome: Outcome,
    broken: Bool[np.ndarray, "samples"] | None,
) -> _Step:
    """Score the patterns that a diagnostic keeps on all samples.

    Note what they break, and take over one that beats the search.
    """
    runtime, box, task, found = request.runtime, request.box, request.runtime.task, request.found
    for origin, partial in finding.patterns.items():
        pattern = _whole(box, partial)
        box.check(pattern, origin=origin)
        output = runtime.outputs(box.weights(pattern), threads=request.run.workers)
        if broken is not None:
            broken = broken | ~task.right(output)
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
    if broken is not None and finding.broken is not None:
        broken = broken | finding.broken
    return _Step(outcome, dict(finding.patterns), found, broken)


@dataclass(frozen=True)
class KeptStep:
    """A finished diagnostic on disk, beside its result.

    Attributes:
        passes: As in its outcome.
        evaluations: Likewise.
        seconds: Likewise.
        patterns: Patterns for later diagnostics.
        found: The worst pattern, where this diagnostic found it.
        broken: Samples broken so far.
    """

    passes: int
    evaluations: int
    seconds: float
    patterns: dict[str, PackedPattern]
    found: SearchResult | None
    broken: Bool[np.ndarray, "samples"] | None


def _kept_step(request: DiagnosisRequest, step: _Step) -> KeptStep:
    outcome = step.outcome
    return KeptStep(
        outcome.passes,
        outcome.evaluations,
        outcome.seconds,
        {origin: pack(request.box, pattern) for origin, pattern in step.patterns.items()},
        None if step.found is request.found else step.found,
        step.broken,
    )


def _step_of(
    diagnostic: Diagnostic, request: DiagnosisRequest, result: Any, kept: KeptStep
) -> _Step:
    return _Step(
        Outcome(diagnostic.name, result, "", kept.passes, kept.evaluations, kept.seconds),
        {origin: unpack(request.box, pattern) for origin, pattern in kept.patterns.items()},
        request.found if kept.found is None else kept.found,
        kept.broken,
    )
