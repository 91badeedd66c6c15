"""Runs the diagnostics that were asked for, one after the other, and keeps the books."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from cimrobust.attack.attack import Bench
from cimrobust.attack.diagnosis_protocol import (
    Case,
    Diagnosis,
    Diagnostic,
    Finding,
    Outcome,
    Settings,
)
from cimrobust.diagnose.diagnostic_catalogue import DIAGNOSTICS
from cimrobust.engine.open import Runtime
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.box import Pattern
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.search.search_results import MemberResult, SearchResult
from cimrobust.search.witness_replay import confirm

NOT_CHOSEN = "not asked for (--diagnostics)"


def diagnose(
    runtime: Runtime,
    scan: LayerScan,
    placement: Placement,
    found: SearchResult,
    names: Collection[str],
    settings: Settings,
) -> Diagnosis:
    """Run diagnostics.

    Args:
        runtime: The network and its data.
        scan: Its crossbar layers.
        placement: Where they are stored.
        found: The worst pattern found by the search.
        names: Diagnostics that were chosen.
        settings: How much to do.

    Raises:
        SelfCheckError: A pattern left its box.
    """
    bench = Bench(
        runtime, placement, settings.effort, settings.seed, settings.workers, settings.device_type
    )
    case = Case(runtime, scan, placement, found, bench)
    broken = None if runtime.task.is_regression else np.zeros(runtime.task.labels.shape, dtype=bool)
    outcomes = []
    for diagnostic in DIAGNOSTICS:
        outcome, finding = _run(diagnostic, case, names, settings)
        if finding is not None:
            kept = {origin: _whole(bench, pattern) for origin, pattern in finding.patterns.items()}
            case = replace(
                case,
                found=_adopt(case, diagnostic, finding, outcome, kept, broken),
                patterns={**case.patterns, **finding.patterns},
            )
            if broken is not None and finding.broken is not None:
                broken |= finding.broken
            outcome = replace(outcome, evaluations=outcome.evaluations + len(kept))
        outcomes.append(outcome)
    settings.progress.finish()
    return Diagnosis(tuple(outcomes), case.found, broken)


def _run(
    diagnostic: Diagnostic, case: Case, names: Collection[str], settings: Settings
) -> tuple[Outcome, Finding | None]:
    """Run one diagnostic, or say why it does not run."""
    if diagnostic.is_optional and diagnostic.name not in names:
        return Outcome(diagnostic.name, None, NOT_CHOSEN), None
    without = diagnostic.applies(case, settings)
    if without:
        return Outcome(diagnostic.name, None, without), None
    begin = time.perf_counter()
    try:
        finding = diagnostic.run(case, settings)
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


def _whole(bench: Bench, pattern: Mapping[str, np.ndarray]) -> Pattern:
    """Return a pattern with zeros for the layers that it does not name."""
    return {**bench.box.zero(), **pattern}


def _adopt(
    case: Case,
    diagnostic: Diagnostic,
    finding: Finding,
    outcome: Outcome,
    kept: Mapping[str, Pattern],
    broken: np.ndarray | None,
) -> SearchResult:
    """Score the patterns that a diagnostic keeps on all samples.

    Note what they break, and take over one that beats the search.
    """
    runtime, box, task, found = case.runtime, case.bench.box, case.runtime.task, case.found
    for origin, pattern in kept.items():
        box.check(pattern, origin=origin)
        output = runtime.outputs(box.weights(pattern), threads=case.bench.workers)
        if broken is not None:
            broken |= ~task.right(output)
        score = task.score(output)
        if task.is_worse(score, found.engine_score):
            replayed, note = confirm(runtime, box, pattern, score, workers=case.bench.workers)
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
