from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cimrobust.errors import UsageError
from cimrobust.montecarlo.anytime import anytime_lower, anytime_upper
from cimrobust.montecarlo.quantile import (
    bound_rank,
    clopper_pearson_lower,
    clopper_pearson_upper,
    failure_rate_of_scores,
    kpp_of_scores,
    needed_trials,
)


@pytest.mark.parametrize(
    ("k", "confidence", "expected"),
    [
        (5, 0.95, (59, 93, 124, 181, 311)),
        (5, 0.999, (135, 181, 220, 291, 447)),
        (1, 0.95, (299, 473, 628, 913, 1568)),
        (1, 0.99, (459, 662, 838, 1157, 1874)),
        (1, 0.999, (688, 920, 1119, 1475, 2259)),
        (0.1, 0.95, (2995, 4742, 6294, 9151, 15702)),
    ],
)
def test_needed_trials_are_those_of_the_published_tables(
    k: float, confidence: float, expected: tuple[int, ...]
) -> None:
    assert tuple(needed_trials(k, confidence, rank) for rank in (1, 2, 3, 5, 10)) == expected


@pytest.mark.parametrize(
    ("n", "at_95", "at_999"),
    [(298, 0, 0), (299, 1, 0), (688, 3, 1), (1000, 5, 2), (2000, 13, 8), (5000, 39, 30)],
)
def test_rank_of_the_bound(n: int, at_95: int, at_999: int) -> None:
    assert (bound_rank(n, 0.01, 0.95), bound_rank(n, 0.01, 0.999)) == (at_95, at_999)


@pytest.mark.parametrize("n", [60, 299, 1000, 1234])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.5])
def test_bound_is_that_of_scipy(n: int, fraction: float) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    theirs = (
        stats.quantile_test(scores, p=fraction, alternative="greater").confidence_interval(0.95).low
    )
    rank = bound_rank(n, fraction, 0.95)
    assert np.isnan(theirs) if rank == 0 else theirs == np.sort(scores)[rank - 1]


def test_kpp_of_300_trials() -> None:
    result = kpp_of_scores(
        np.random.default_rng(0).permutation(300) / 1000.0, k=1.0, confidence=0.95
    )
    assert (result.score, result.bound, result.rank) == (0.002, 0.0, 1)


def test_kpp_is_mirrored_where_lower_is_better() -> None:
    errors = np.random.default_rng(0).permutation(300).astype(float)
    result = kpp_of_scores(errors, k=1.0, confidence=0.95, higher_is_better=False)
    assert (result.score, result.bound) == (297.0, 299.0)


def test_too_few_trials_give_no_bound_and_say_how_many_are_needed() -> None:
    result = kpp_of_scores(np.full(298, 0.9), k=1.0, confidence=0.95)
    assert (result.score, result.bound, result.rank, result.needed_trials) == (0.9, None, 0, 299)


@pytest.mark.parametrize(
    ("n", "k", "rank"), [(1000, 0.7, 7), (1000, 0.1, 1), (300, 1.0, 3), (301, 1.0, 4), (1, 1.0, 1)]
)
def test_quantile_rank_does_not_suffer_from_rounding(n: int, k: float, rank: int) -> None:
    assert kpp_of_scores(np.arange(1.0, n + 1), k=k, confidence=0.95).score == rank


def test_clopper_pearson_agrees_with_scipy_and_the_zero_event_formula() -> None:
    for events, trials in ((0, 10000), (3, 300), (17, 50), (50, 50)):
        exact = stats.binomtest(events, trials)
        assert clopper_pearson_upper(events, trials, 0.95) == pytest.approx(
            exact.proportion_ci(0.90).high, rel=1e-9
        )
        assert clopper_pearson_lower(events, trials, 0.95) == pytest.approx(
            exact.proportion_ci(0.90).low, rel=1e-9
        )
    assert clopper_pearson_upper(0, 10000, 0.999) == pytest.approx(
        1 - 0.001 ** (1 / 10000), rel=1e-9
    )


def test_failure_rate_counts_only_what_is_strictly_worse() -> None:
    accuracies = np.array([1899, 1900, 1901] * 100) / 2000
    rate = failure_rate_of_scores(accuracies, requirement=0.95, confidence=0.95)
    assert (rate.num_failures, rate.num_trials) == (100, 300)
    assert rate.lower < rate.estimate < rate.upper


def test_failure_rate_of_an_error_metric_is_mirrored() -> None:
    rate = failure_rate_of_scores(
        np.array([1.0, 2.0, 3.0]), requirement=2.0, confidence=0.95, higher_is_better=False
    )
    assert rate.num_failures == 1


@pytest.mark.parametrize("scores", [np.empty(0), np.array([0.5, np.nan])])
def test_senseless_scores_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(UsageError, match="trial"):
        kpp_of_scores(scores, k=1.0, confidence=0.95)


@pytest.mark.parametrize(
    ("k", "confidence"), [(0.0, 0.95), (100.0, 0.95), (1.0, 1.0), (1.0, 0.0), (1.0, 95.0)]
)
def test_senseless_levels_are_refused(k: float, confidence: float) -> None:
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        kpp_of_scores(np.ones(10), k=k, confidence=confidence)


@pytest.mark.parametrize(("events", "trials"), [(0, 0), (-1, 5), (6, 5), (1, 0)])
def test_senseless_counts_are_refused(events: int, trials: int) -> None:
    for bound in (clopper_pearson_lower, clopper_pearson_upper):
        with pytest.raises(UsageError, match="events must be between 0 and the number of trials"):
            bound(events, trials, 0.95)


def test_the_best_trial_may_be_the_bound() -> None:
    assert [bound_rank(1, fraction, 0.5) for fraction in (0.4, 0.6)] == [0, 1]
    assert bound_rank(3, 0.999, 0.5) == 3


@pytest.mark.parametrize(("k", "confidence"), [(0.0, 0.95), (100.0, 0.95), (1.0, 0.0), (1.0, 1.0)])
def test_senseless_levels_need_no_number_of_trials(k: float, confidence: float) -> None:
    with pytest.raises(UsageError, match="must be between 0 and 1, both excluded"):
        needed_trials(k, confidence)


def test_a_percentile_that_no_run_can_decide_is_refused() -> None:
    with pytest.raises(UsageError, match="percentile must be one that trials can decide"):
        needed_trials(1e-14, 0.95)


def test_a_failure_rate_whose_run_could_stop_has_wider_bounds() -> None:
    scores = np.where(np.arange(500) < 3, 0.1, 0.9)
    fixed, stopped = (
        failure_rate_of_scores(scores, requirement=0.5, confidence=0.95, sequential_aim=aim)
        for aim in (None, 0.01)
    )
    assert (fixed.num_failures, stopped.num_failures) == (3, 3)
    assert (stopped.lower, stopped.upper) == (
        anytime_lower(3, 500, 0.95),
        anytime_upper(3, 500, 0.95, aim=0.01),
    )
    assert stopped.lower < fixed.lower < fixed.estimate < fixed.upper < stopped.upper
