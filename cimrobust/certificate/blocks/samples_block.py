"""What the finite number of evaluation samples leaves open, apart from the chips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.montecarlo.sample_uncertainty import accuracy_interval, accuracy_lower, method_of

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence

CONFIDENCE = 0.95
_SELF = "the labels are the model's own decisions, so it is 1 on any samples"
_STOPPED = "the trials could stop early, so the samples had a say in which chips were averaged"
_CHOSEN = (
    "Holds for a chip chosen without looking at the samples. This one was searched for on them, so"
    " on fresh samples it may be above the interval; that its score on these samples is as stated"
    " stays a fact."
)


def evaluation_set(evidence: Evidence) -> models.EvaluationSet:
    """State an interval for every accuracy, chips given."""
    runtime = evidence.runtime
    inputs, decisions, most = (
        runtime.dataset.num_samples,
        runtime.task.num_decisions,
        runtime.task.most_decisions,
    )
    if runtime.task.is_regression:
        none = [
            models.NotRun(
                name="all",
                reason=(
                    "an error has no upper limit, so samples alone bound nothing without"
                    " assumptions"
                ),
            )
        ]
        # An error is that of a sample, of however many values: scores count so too.
        return models.EvaluationSet(
            samples=inputs,
            decisions=inputs,
            most_decisions=1,
            confidence=CONFIDENCE,
            intervals=[],
            not_stated=none,
        )
    omitted = {"clean": _SELF} if runtime.dataset.labels is None else {}
    if evidence.trials.is_sequential:
        omitted["mean"] = _STOPPED
    return models.EvaluationSet(
        samples=inputs,
        decisions=decisions,
        most_decisions=most,
        confidence=CONFIDENCE,
        intervals=[
            interval_of(name, score, num_decisions=decisions, num_inputs=inputs, most=most)
            for name, score in _scores(evidence)
            if name not in omitted
        ],
        not_stated=[models.NotRun(name=name, reason=reason) for name, reason in omitted.items()],
    )


def _certified(
    score: float, *, num_decisions: int, num_inputs: int, most: int | None
) -> models.SampleInterval:
    """State how many decisions all chips take right at once.

    Every sample has one number of them, whatever the chip, so one one-sided bound serves every
    chip.
    """
    low = accuracy_lower(
        score, num_decisions=num_decisions, num_inputs=num_inputs, most=most, confidence=CONFIDENCE
    )
    return models.SampleInterval(
        name="certified",
        score=score,
        low=low,
        high=1.0,
        method=f"{method_of(num_decisions, num_inputs, most)}, one-sided",
        statement=(
            f"With {100 * CONFIDENCE:g} % confidence, every chip within the tolerance, all of them"
            f" at once, has an accuracy of at least {100 * low:.2f} % on the distribution that the"
            " evaluation samples were drawn from, if they were drawn independently."
        ),
        caveat=None,
    )


def interval_of(
    name: str, score: float, *, num_decisions: int, num_inputs: int, most: int | None = None
) -> models.SampleInterval:
    """State the interval of one accuracy.

    Args:
        name: ``clean``, ``quantised``, ``converters``, ``mean``, ``worst_found`` or ``certified``.
        score: The accuracy.
        num_decisions: Decisions it counts.
        num_inputs: Independent samples they were made on.
        most: Decisions that a sample may have; None: each has as many as any other.
    """
    if name == "certified":
        return _certified(score, num_decisions=num_decisions, num_inputs=num_inputs, most=most)
    is_average = name == "mean"
    interval = accuracy_interval(
        score,
        num_decisions=num_decisions,
        num_inputs=num_inputs,
        most=most,
        confidence=CONFIDENCE,
        is_average=is_average,
    )
    whose = {
        "clean": "the model file",
        "mean": "the drawn chips on average",
        "worst_found": "the worst chip found",
    }.get(name, "the stored network")
    statement = (
        f"With {100 * interval.confidence:g} % confidence, the accuracy of {whose} on the"
        " distribution that the evaluation samples were drawn from is between"
        f" {100 * interval.low:.2f} % and {100 * interval.high:.2f} %, if they were drawn"
        " independently."
    )
    return models.SampleInterval(
        name=name,
        score=score,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        statement=statement,
        caveat=_CHOSEN if name == "worst_found" else None,
    )


def _scores(evidence: Evidence) -> Iterator[tuple[str, float]]:
    runtime = evidence.runtime
    yield "clean", runtime.clean.value
    yield "quantised", runtime.quantised.value
    if runtime.converters is not None:
        yield "converters", runtime.converters.score.value
    yield "mean", evidence.trials.mean
    yield "worst_found", evidence.search.score.value
    if evidence.certification.score is not None:
        yield "certified", evidence.certification.score.value
