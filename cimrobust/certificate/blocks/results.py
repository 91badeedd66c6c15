"""What was measured: scores without deviation, drawn chips, the worst chip found."""

from __future__ import annotations

import sys

import numpy as np

from cimrobust.certificate import models
from cimrobust.certificate.blocks.flipped import flipped
from cimrobust.certificate.blocks.likelihood import worst_likelihood
from cimrobust.certificate.evidence import Evidence
from cimrobust.certificate.policy import Policy, stop_rule
from cimrobust.data.decision import Score
from cimrobust.montecarlo.quantile import Kpp, kpp_of_scores
from cimrobust.montecarlo.stopping import Watch
from cimrobust.montecarlo.trial_table import TrialTable, failure_rate
from cimrobust.montecarlo.two_source import TwoSourceBound, two_source_bound
from cimrobust.records import finite
from cimrobust.search.search_results import MemberResult
from cimrobust.search.witness import SAFETY_FILE

CONFIDENCE = 0.95
_RULE = (
    "After every trial: a requirement is met where the evidence against a share of failing chips of"
    " k/100, the beta mixture M = B(a+S, b+n-S) / (B(a,b) p^S (1-p)^(n-S)) at p = k/100 with S"
    " failures in n trials, a = 1/2 and b = 2/p, has reached 1/(1 - confidence) with S/n < p;"
    " refuted where the same with b = 1/2 has, with S/n > p. The run stops when all are met or one"
    " is refuted. By Ville's inequality either answer is wrong with probability at most 1 -"
    " confidence, whenever the run stops, and the bounds of this section are those of the same"
    " mixture."
)
KPP_PERCENTAGES = (1.0, 5.0, 10.0)
_MOST_CLASSES = 100
_MOST_CONFUSION = 20
_NUM_BINS = 24
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


def monte_carlo(
    trials: TrialTable,
    policy: Policy | None,
    *,
    num_inputs: int,
    most: int | None = None,
    rare: models.RareEvent | None = None,
) -> models.MonteCarlo:
    """Describe the drawn chips.

    Args:
        trials: The drawn chips.
        policy: What is required.
        num_inputs: Evaluation samples, each of them an independent draw.
        most: Decisions that a sample may have; None: each has as many as any other.
        rare: Rare failures, where they were asked for.
    """
    values = np.nan_to_num(trials.value, nan=sys.float_info.max, posinf=sys.float_info.max)
    counts, edges = _histogram(values)
    requirement, requirement_reason = _requirement(trials, policy)
    return models.MonteCarlo(
        trials=trials.num_trials,
        seed=trials.seed,
        samples=trials.num_samples,
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if values.size > 1 else 0.0,
        min=float(values.min()),
        max=float(values.max()),
        worst_trial=trials.worst_trial,
        kpp=[
            _kpp(
                kpp_of_scores(
                    values,
                    k=k,
                    confidence=confidence,
                    higher_is_better=trials.higher_is_better,
                    is_sequential=trials.is_sequential,
                ),
                trials,
                num_inputs,
                most,
            )
            for k, confidence in percentages(policy)
        ],
        requirement=requirement,
        requirement_reason=requirement_reason,
        stopping=_stopping(trials, policy),
        rare=rare,
        rare_reason=None if rare is not None else "not asked for (--rare-below)",
        stopping_reason=(
            None if trials.is_sequential else "the number of trials was fixed in advance"
        ),
        histogram=models.Histogram(
            edges=[float(edge) for edge in edges], counts=[int(count) for count in counts]
        ),
    )


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and edges.

    Chips that all score the same make one bin, a hundredth of their score wide.
    """
    low, high = float(values.min()), float(values.max())
    if low < high:
        return np.histogram(values, bins=_NUM_BINS)
    half = 0.005 * abs(low) or 0.005
    return np.histogram(values, bins=1, range=(low - half, high + half))


def worst_found(evidence: Evidence) -> models.WorstFound:
    """Describe the worst chip found."""
    search, task = evidence.search, evidence.runtime.task
    confusion, reason = None, None
    if task.num_classes is None:
        reason = "a regression has no classes"
    elif task.num_classes > _MOST_CONFUSION:
        reason = (
            f"{task.num_classes} classes are too many for a table; the limit is {_MOST_CONFUSION}"
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


def percentages(policy: Policy | None) -> list[tuple[float, float]]:
    """Return the percentiles that are reported, in percent, each with its confidence.

    Those that a policy asks for come first.
    """
    asked = [] if policy is None else [(float(kpp.k), kpp.confidence) for kpp in policy.percentiles]
    return list(dict.fromkeys([*asked, *((k, CONFIDENCE) for k in KPP_PERCENTAGES)]))


def _kpp(kpp: Kpp, trials: TrialTable, num_inputs: int, most: int | None) -> models.Kpp:
    side = "at least" if trials.higher_is_better else "at most"
    if kpp.bound is None:
        statement = (
            f"With {kpp.num_trials} trials no bound exists yet at this confidence;"
            f" {kpp.needed_trials} trials are needed."
        )
    else:
        statement = (
            f"With {100 * kpp.confidence:g} % confidence, all but the worst {kpp.k:g} % of chips"
            f" score {side} {_score(kpp.bound, trials)} on these samples (order statistic"
            f" {kpp.rank} of {kpp.num_trials}, whatever the distribution of"
            f" scores{', whenever the run stopped' if trials.is_sequential else ''})."
        )
    both, reason = _two_source(kpp, trials, num_inputs, most)
    return models.Kpp(
        k=kpp.k,
        score=kpp.score,
        lower_bound=kpp.bound,
        confidence=kpp.confidence,
        rank=kpp.rank,
        needed_trials=kpp.needed_trials,
        statement=statement,
        two_source=both,
        two_source_reason=reason,
    )


def _score(value: float, trials: TrialTable) -> str:
    """Return a score as everywhere: accuracies in percent, errors with four digits."""
    return f"{value:.4g}" if trials.count is None else f"{100 * value:.2f} %"


def _requirement(
    trials: TrialTable, policy: Policy | None
) -> tuple[models.Requirement | None, str | None]:
    asked = [] if policy is None else policy.percentiles
    if not asked:
        return None, "no policy with a percentile requirement was given"
    rate = failure_rate(trials, asked[0].accuracy, asked[0].confidence, aim=asked[0].k / 100)
    return (
        models.Requirement(
            threshold=rate.requirement,
            failures=rate.num_failures,
            rate=rate.estimate,
            upper_bound=rate.upper,
            confidence=rate.confidence,
            method="beta mixture" if trials.is_sequential else "Clopper-Pearson",
        ),
        None,
    )


def _stopping(trials: TrialTable, policy: Policy | None) -> models.Stopping | None:
    if trials.max_trials is None or policy is None:
        return None
    rule = stop_rule(policy, higher_is_better=trials.higher_is_better)
    watch = Watch(rule)
    stopped = [watch.stops_after(value) for value in trials.value.tolist()][-1]
    after = f"after trial {trials.num_trials} of at most {trials.max_trials}"
    return models.Stopping(
        max_trials=trials.max_trials,
        stopped=stopped,
        targets=[
            models.TargetOutcome(
                k=target.k,
                confidence=target.confidence,
                threshold=target.score,
                failures=failures,
                outcome=said,
            )
            for target, failures, said in zip(
                rule.targets, watch.failures, watch.outcomes, strict=True
            )
        ],
        rule=_RULE,
        statement=(
            f"The requirements were decided {after}."
            if stopped
            else f"The run ended undecided {after}."
        ),
    )


def _two_source(
    kpp: Kpp, trials: TrialTable, num_inputs: int, most: int | None
) -> tuple[models.TwoSource | None, str | None]:
    if trials.count is None:
        return (
            None,
            (
                "an error has no upper limit, so a finite set of samples bounds nothing without"
                " assumptions"
            ),
        )
    both = two_source_bound(
        trials.value,
        num_decisions=trials.num_samples,
        num_inputs=num_inputs,
        most=most,
        k=kpp.k,
        confidence=kpp.confidence,
        is_sequential=trials.is_sequential,
    )
    if both.bound is None or both.observed is None:
        return None, f"{both.num_trials} trials are too few; {both.needed_trials} are needed"
    statement = (
        f"With {100 * both.confidence:g} % confidence, all but the worst {both.k:g} % of chips have"
        f" an accuracy of at least {_score(both.bound, trials)} on the distribution that the"
        " evaluation samples were drawn from, if they were drawn independently."
    )
    return (
        models.TwoSource(
            bound=both.bound,
            observed=both.observed,
            rank=both.rank,
            samples=both.num_inputs,
            method=both.method,
            spared_fraction=both.spared,
            chip_error=both.chip_error,
            sample_error=both.sample_error,
            statement=statement,
            formula=_formula(both),
        ),
        None,
    )


def _formula(both: TwoSourceBound) -> str:
    """Return how the bound was computed, with its numbers."""
    return (
        f"{both.method} lower bound, at level a2 g = {both.sample_error * both.spared:.3g} and with"
        f" {both.num_inputs} samples, of trial {both.rank} of {both.num_trials} counted from the"
        f" worst, the order statistic for the fraction k/100 - g at level a1; k = {both.k:g}, g ="
        f" {both.spared:g}, a1 = {both.chip_error:g}, a2 = {both.sample_error:g}"
    )
