from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from cimrobust.errors import UsageError
from cimrobust.montecarlo.anytime import (
    JEFFREYS,
    Target,
    anytime_lower,
    anytime_rank,
    anytime_upper,
    log_evidence,
    needed_anytime,
    outcome,
    passing_prior,
)
from cimrobust.montecarlo.quantile import (
    bound_rank,
    clopper_pearson_lower,
    clopper_pearson_upper,
    kpp_of_scores,
)
from cimrobust.montecarlo.stopping import StopRule, Watch
from cimrobust.montecarlo.two_source import two_source_bound

TARGET = Target(k=1.0, confidence=0.95, score=0.9)


@pytest.mark.parametrize(
    ("prior", "expected"), [((1.0, 1.0), 984), ((1.0, 299.0), 380), ((0.5, 200.0), 349)]
)
def test_trials_without_failure_that_the_notes_give(
    prior: tuple[float, float], expected: int
) -> None:
    evidence = [log_evidence(0, n, 0.01, prior) for n in (expected - 1, expected)]
    assert evidence[0] < np.log(20) <= evidence[1]


@pytest.mark.parametrize(("failures", "trials"), [(0, 5), (3, 40), (40, 40)])
def test_evidence_is_the_mixture_of_likelihood_ratios(failures: int, trials: int) -> None:
    def ratio(q: float) -> float:
        return float(
            stats.beta.pdf(q, 2, 5) * (q / 0.2) ** failures * ((1 - q) / 0.8) ** (trials - failures)
        )

    mixed, _ = integrate.quad(ratio, 0, 1)
    assert np.exp(log_evidence(failures, trials, 0.2, (2.0, 5.0))) == pytest.approx(mixed, rel=1e-6)


def test_fewest_trials_that_pass() -> None:
    assert (needed_anytime(0.01, 0.95), needed_anytime(0.01, 0.999)) == (349, 766)
    assert (outcome(0, 348, TARGET), outcome(0, 349, TARGET), outcome(1, 349, TARGET)) == (
        "open",
        "met",
        "open",
    )
    assert (outcome(5, 5, TARGET), outcome(0, 1, TARGET)) == ("refuted", "open")


@pytest.mark.parametrize("fraction", [0.005, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_a_target_is_met_exactly_if_the_percentile_bound_reaches_it(
    fraction: float, confidence: float
) -> None:
    target = Target(k=100 * fraction, confidence=confidence, score=0.0)
    for trials in (1, 10, 69, 349, 1000, 4321):
        rank = anytime_rank(trials, target.rate, confidence)
        met = [outcome(failures, trials, target) == "met" for failures in range(trials + 1)]
        assert met == [failures < rank for failures in range(trials + 1)]
        assert rank <= bound_rank(trials, target.rate, confidence)


@pytest.mark.parametrize(
    ("failures", "trials"), [(0, 1), (1, 1), (0, 349), (3, 1000), (500, 1000), (1000, 1000)]
)
def test_bounds_solve_their_equation_and_are_wider_than_those_for_a_fixed_number(
    failures: int, trials: int
) -> None:
    lower, upper = (
        anytime_lower(failures, trials, 0.95),
        anytime_upper(failures, trials, 0.95, aim=0.01),
    )
    assert lower <= clopper_pearson_lower(failures, trials, 0.95)
    assert upper >= clopper_pearson_upper(failures, trials, 0.95)
    if lower > 0.0:
        assert log_evidence(failures, trials, lower, JEFFREYS) == pytest.approx(
            np.log(20), rel=1e-6
        )
    if upper < 1.0:
        assert log_evidence(failures, trials, upper, passing_prior(0.01)) == pytest.approx(
            np.log(20), rel=1e-6
        )


def test_bounds_of_percentiles_know_that_the_run_could_stop() -> None:
    scores = np.arange(1000) / 1000
    fixed, sequential = (
        kpp_of_scores(scores, k=1.0, confidence=0.95, is_sequential=flag) for flag in (False, True)
    )
    assert (fixed.rank, sequential.rank, sequential.needed_trials) == (5, 3, 349)
    both = two_source_bound(scores, num_decisions=1000, is_sequential=True)
    assert both.rank == anytime_rank(1000, 0.005, 0.975)
    assert both.needed_trials == needed_anytime(0.005, 0.975)


def test_a_run_stops_when_all_targets_are_met_or_one_is_refuted() -> None:
    easy = Target(k=10.0, confidence=0.95, score=0.5)
    watch = Watch(StopRule((TARGET, easy), higher_is_better=True))
    stops = [watch.stops_after(0.95) for _ in range(349)]
    assert stops == [False] * 348 + [True]
    watch = Watch(StopRule((TARGET, easy), higher_is_better=True))
    stops = [watch.stops_after(0.6) for _ in range(2)]
    assert stops[-1]
    assert (watch.failures, watch.outcomes) == ((2, 0), ("refuted", "open"))


def test_reaching_the_score_exactly_is_no_failure_in_either_direction() -> None:
    for higher in (True, False):
        watch = Watch(StopRule((TARGET,), higher_is_better=higher))
        for value in (0.9, 0.90000001, 0.89999999, np.inf):
            watch.stops_after(value)
        assert watch.failures == ((1,) if higher else (2,))


def test_too_few_trials_to_pass_are_refused() -> None:
    rule = StopRule((TARGET, Target(k=0.1, confidence=0.95, score=0.5)), higher_is_better=True)
    assert rule.needed_trials == 3500
    rule.check(3500)
    with pytest.raises(UsageError, match="at least 3500"):
        rule.check(3499)


def test_a_rate_that_nothing_rejects_has_no_bound_below_one() -> None:
    """After one trial without event the likelihood ratio of the end is 1e12, less than 1e15."""
    assert anytime_upper(0, 1, 1 - 1e-15, aim=0.01) == 1.0
    assert anytime_upper(0, 1, 1 - 1e-9, aim=0.01) < 1.0
