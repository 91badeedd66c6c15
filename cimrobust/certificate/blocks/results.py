"""What was measured: scores without deviation and of the worst chip found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.certificate.blocks.flipped import flipped
from cimrobust.certificate.blocks.likelihood import worst_likelihood
from cimrobust.certificate.models.found import MOST_CONFUSION
from cimrobust.records import finite
from cimrobust.search.witness import SAFETY_FILE

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.data.decision import Score
    from cimrobust.search.search_results import MemberResult

_MOST_CLASSES = 100
_REPLAY = "onnxruntime on witness/worst_case.onnx"
_REPLAY_CONVERTERS = (
    "onnxruntime on witness/worst_case.onnx, which has no converters; NumPy for the products with"
    " converters"
)


def clean(evidence: Evidence) -> models.Clean:
    """Describe the network without deviation."""
    runtime, task = evidence.runtime, evidence.runtime.task
    rows, reason = None, None
    if task.num_classes is None:
        reason = "a regression has no classes"
    elif task.num_classes > _MOST_CLASSES:
        reason = (
            f"{task.num_classes} classes are too many for a table; the limit is {_MOST_CLASSES}"
        )
    else:
        right, worst = (
            task.right(runtime.clean_output).ravel(),
            task.right(evidence.worst_output).ravel(),
        )
        labels = task.labels.ravel()
        rows = [
            models.ClassRow(
                label=label,
                samples=int((labels == label).sum()),
                clean=int(right[labels == label].sum()),
                worst=int(worst[labels == label].sum()),
            )
            for label in range(task.num_classes)
        ]
    return models.Clean(
        score=finite(runtime.clean.value),
        correct=runtime.clean.count,
        samples=runtime.clean.num_samples,
        quantised_score=finite(runtime.quantised.value),
        quantised_correct=runtime.quantised.count,
        per_class=rows,
        per_class_reason=reason,
    )


def worst_found(evidence: Evidence) -> models.WorstFound:
    """Describe the worst chip found."""
    search, task = evidence.search, evidence.runtime.task
    confusion, reason = None, None
    if task.num_classes is None:
        reason = "a regression has no classes"
    elif task.num_classes > MOST_CONFUSION:
        reason = (
            f"{task.num_classes} classes are too many for a table; the limit is {MOST_CONFUSION}"
        )
    else:
        confusion = [[int(count) for count in row] for row in task.confusion(evidence.worst_output)]
    inputs, no_inputs = flipped(evidence)
    likelihood, no_likelihood = worst_likelihood(evidence)
    return models.WorstFound(
        score=finite(search.score.value),
        correct=search.score.count,
        samples=search.score.num_samples,
        member=search.member,
        members=[
            _member(member, member.score) for member in search.members if member.score is not None
        ],
        not_run=[
            models.NotRun(name=member.name, reason=member.note)
            for member in search.members
            if member.score is None
        ],
        has_twin=search.has_twin,
        twin_reason=search.twin_reason,
        effort=search.effort,  # type: ignore[arg-type]  # checked by pydantic
        crafting_samples=search.crafting_samples,
        effort_curve=search.curve,
        effort_curve_reason=None if search.curve is not None else "no pattern was found",
        box_obeyed=True,
        replay=models.Replay(
            engine=_REPLAY if evidence.runtime.converters is None else _REPLAY_CONVERTERS,
            score=finite(search.file_score.value),
            correct=search.file_score.count,
            engine_score=finite(search.engine_score.value),
            note=search.replay_note,
        ),
        witness={
            name: digest
            for name, digest in evidence.witness.items()
            if not name.endswith(SAFETY_FILE)
        },
        warnings=search.warnings,
        confusion=confusion,
        confusion_reason=reason,
        flipped=inputs,
        flipped_reason=no_inputs,
        likelihood=likelihood,
        likelihood_reason=no_likelihood,
    )


def _member(member: MemberResult, score: Score) -> models.Member:
    return models.Member(
        name=member.name,
        score=finite(score.value),
        correct=score.count,
        seconds=round(member.seconds, 3),
        passes=member.passes,
        evaluations=member.evaluations,
        note=member.note,
    )
