"""Diagnostic: is the worst chip a property of the chip or of the samples?

Search on one half of the samples, score on the other, both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.attack.subject_parts import part_of
from cimrobust.diagnose.diagnose_records import TransferDirection
from cimrobust.diagnose.transfer_result import CONFIDENCE, Transfer, property_of
from cimrobust.montecarlo.sample_uncertainty import accuracy_interval
from cimrobust.search.ensemble import search
from cimrobust.seeds import stream

if TYPE_CHECKING:
    from cimrobust.data.task import Task
    from cimrobust.mapping.box import Pattern

NAME = "transfer"
#: Fewest samples: with halves of fewer, the intervals say next to nothing.
FEWEST_SAMPLES = 20
_EFFORT = {"quick": "quick", "standard": "quick", "thorough": "standard"}


def halves(task: Task, seed: int) -> tuple[Int64[np.ndarray, "first"], Int64[np.ndarray, "second"]]:
    """Return the indices of two halves of the samples, drawn at random.

    With one label a sample every class is shared out evenly.
    """
    num_samples = task.labels.shape[0]
    order = stream(seed, "diagnose", NAME).permutation(num_samples)
    if not task.is_regression and task.labels.ndim == 1:
        order = order[np.argsort(task.labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def _run(request: DiagnosisRequest) -> Finding:
    first, second = halves(request.runtime.task, request.run.seed)
    directions, kept, passes, evaluations = [], {}, 0, 0
    effort = _EFFORT[request.run.effort]
    for number, (part, other) in enumerate(((first, second), (second, first)), start=1):
        some = part_of(request.subject, part, workers=request.run.workers)
        parts = request.context.parts.within(f"half-{number}", part)
        found = search(some, request.run.at_effort(effort), parts=parts)
        pattern = dict(found.deviations)
        directions.append(_direction(request, pattern, part, other))
        kept[f"half {number} of the samples"] = pattern
        passes, evaluations = passes + found.passes, evaluations + found.evaluations + 4
    return Finding(
        Transfer(tuple(directions), property_of(directions), effort), passes, evaluations, kept
    )


def _direction(
    request: DiagnosisRequest,
    pattern: Pattern,
    part: Int64[np.ndarray, "part"],
    other: Int64[np.ndarray, "other"],
) -> TransferDirection:
    box, runtime = request.box, request.runtime
    zero, weights = box.weights(box.zero()), box.weights(pattern)
    clean, held_out_clean = (
        runtime.score(zero, subset=some, threads=request.run.workers) for some in (part, other)
    )
    found, held_out = (
        runtime.score(weights, subset=some, threads=request.run.workers) for some in (part, other)
    )
    loss, suffered = clean.value - found.value, held_out_clean.value - held_out.value
    interval, visible = None, loss != 0
    if not runtime.task.is_regression:
        interval = accuracy_interval(
            held_out.value,
            num_decisions=held_out.num_samples,
            num_inputs=len(other),
            most=runtime.task.most_decisions,
            confidence=CONFIDENCE,
        )
        visible = loss > (interval.high - interval.low) / 2
    return TransferDirection(
        searched_samples=found.num_samples,
        searched_clean=clean.value,
        searched=found.value,
        held_out_samples=held_out.num_samples,
        held_out_clean=held_out_clean.value,
        held_out=held_out.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        method=None if interval is None else interval.method,
        share=suffered / loss if visible else None,
    )


def _applies(request: DiagnosisRequest) -> str:
    count = request.runtime.dataset.num_samples
    return (
        ""
        if count >= FEWEST_SAMPLES
        else f"{count} samples are too few to search on half of them; {FEWEST_SAMPLES} are needed"
    )


TRANSFER = Diagnostic(NAME, "Transfer to held-out samples", _run, applies=_applies, gives=Transfer)
