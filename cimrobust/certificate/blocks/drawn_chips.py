"""What was measured of drawn chips; a table of trials is all that it follows from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate import models
from cimrobust.certificate.policy import Policy, stop_rule
from cimrobust.montecarlo.quantile import Kpp, kpp_of_scores
from cimrobust.montecarlo.stopping import Watch
from cimrobust.montecarlo.trial_table import TrialTable, failure_rate
from cimrobust.montecarlo.two_source import TwoSourceBound, two_source_bound
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Int64

CONFIDENCE = 0.95
KPP_PERCENTAGES = (1.0, 5.0, 10.0)
_RULE = (
    "After every trial: a requirement is met where the evidence against a share of failing chips of"
    " k/100, the beta mixture M = B(a+S, b+n-S) / (B(a,b) p^S (1-p)^(n-S)) at p = k/100 with S"
    " failures in n trials, a = 1/2 and b = 2/p, has reached 1/(1 - confidence) with S/n < p;"
    " refuted where the same with b = 1/2 has, with S/n > p. The run stops when all are met or one"
    " is refuted. By Ville's inequality either answer is wrong with probability at most 1 -"
    " confidence, whenever the run stops, and the bounds of this section are those of the same"
    " mixture."
)
_NUM_BINS = 24


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
        mean=finite(trials.mean),
        std=finite(trials.std),
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


def _histogram(
    values: Float64[np.ndarray, "chips"],
) -> tuple[Int64[np.ndarray, "bins"], Float64[np.ndarray, "edges"]]:
    """Return counts and edges.

    Chips that all score the same make one bin, a hundredth of their score wide.
    """
    # Of half the scores, which is exact: an infinite error is the largest float64 here, and NumPy's
    # edges would run over it.
    halves = 0.5 * values
    low, high = float(halves.min()), float(halves.max())
    if low < high:
        counts, edges = np.histogram(halves, bins=_NUM_BINS)
    else:
        wide = 0.005 * abs(low) or 0.0025
        ends = (low - wide, min(high + wide, 0.5 * sys.float_info.max))
        counts, edges = np.histogram(halves, bins=1, range=ends)
    return counts, 2.0 * edges


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
