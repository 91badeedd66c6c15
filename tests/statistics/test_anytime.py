"""Error level and saving of runs that stop early, by simulation: 10,000 runs that are looked at
after every trial.

A rule whose error is exactly the stated one fails its test with probability below 1e-6; seeds are
fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from cimrobust.montecarlo.anytime import Target, anytime_lower, anytime_rank, anytime_upper, outcome
from cimrobust.montecarlo.quantile import clopper_pearson_upper

REPEATS = 10_000
HORIZON = 20_000

# Whether a run is passed, or refuted, after n trials with S failures.
_Rule = Callable[[int, int], bool]


def _largest_count(rate: float) -> int:
    return int(stats.binom.isf(1e-6, REPEATS, rate))


@dataclass(frozen=True)
class Runs:
    """How simulated runs ended: the trial they stopped after, past the horizon for never, and what
    they said.
    """

    stopped: np.ndarray
    passed: np.ndarray
    refuted: np.ndarray


def _first_pass(rule: _Rule, failures: int, horizon: int = HORIZON) -> int:
    """Return the first n at which so many failures pass; later ones pass too."""
    low, high = failures, horizon + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rule(failures, middle) else (middle, high)
    return high


def _last_refutation(rule: _Rule, failures: int, horizon: int = HORIZON) -> int:
    """Return the last n at which so many failures refute; earlier ones refute too. 0: never."""
    if not rule(failures, failures):
        return 0
    low, high = failures, horizon + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rule(failures, middle) else (low, middle)
    return low


def simulate(
    rate: float, *, passes: _Rule, refutes: _Rule, seed: int, horizon: int = HORIZON
) -> Runs:
    """Run `REPEATS` runs of Bernoulli trials, looked at after every trial.

    Only the trials with a failure are drawn. Between two of them a run passes, if at all, at the
    first n that its failures allow; it is refuted at a failure.
    """
    most = int(stats.binom.isf(1e-12, horizon, rate)) + 1
    times = np.cumsum(np.random.default_rng(seed).geometric(rate, size=(REPEATS, most)), axis=1)
    begin = np.concatenate([np.zeros((REPEATS, 1), dtype=np.int64), times[:, :-1]], axis=1)
    failures = range(most)
    first_pass = np.array([_first_pass(passes, count, horizon) for count in failures])
    last_refutation = np.array(
        [0, *(_last_refutation(refutes, count, horizon) for count in range(1, most))]
    )
    at = np.maximum(first_pass, begin)
    pass_time = np.where(at < times, at, horizon + 1).min(axis=1)
    refuted_time = np.where(begin[:, 1:] <= last_refutation[1:], begin[:, 1:], horizon + 1).min(
        axis=1
    )
    stopped = np.minimum(np.minimum(pass_time, refuted_time), horizon + 1)
    in_time = stopped <= horizon
    return Runs(
        stopped, in_time & (pass_time < refuted_time), in_time & (refuted_time <= pass_time)
    )


def _runs(target: Target, rate: float, seed: int = 1, horizon: int = HORIZON) -> Runs:
    return simulate(
        rate,
        passes=lambda failures, trials: outcome(failures, trials, target) == "met",
        refutes=lambda failures, trials: outcome(failures, trials, target) == "refuted",
        seed=seed,
        horizon=horizon,
    )


ONE_PERCENT = Target(k=1.0, confidence=0.95, score=0.9)


@pytest.mark.parametrize(
    "target",
    [
        ONE_PERCENT,
        Target(k=1.0, confidence=0.999, score=0.9),
        Target(k=10.0, confidence=0.9, score=0.9),
        Target(k=0.2, confidence=0.95, score=0.9),
    ],
)
def test_either_answer_is_wrong_no_more_often_than_stated(target: Target) -> None:
    """At the rate that is just allowed, and at the smallest that is not, each answer is the hardest
    to avoid wrongly.
    """
    runs = _runs(target, target.rate)
    assert runs.passed.sum() <= _largest_count(1 - target.confidence)
    assert runs.refuted.sum() <= _largest_count(1 - target.confidence)


def test_looking_again_and_again_at_a_bound_for_a_fixed_number_breaks_it() -> None:
    """The control: Clopper-Pearson at 95 %, looked at after every trial up to 5000, passes far more
    than 5 % of bad networks.
    """
    runs = simulate(
        0.01,
        passes=lambda failures, trials: clopper_pearson_upper(failures, trials, 0.95) <= 0.01,
        refutes=lambda failures, trials: False,
        seed=2,
        horizon=5000,
    )
    assert runs.passed.mean() > 0.2


@pytest.mark.parametrize(
    ("rate", "most"), [(0.001, 500), (0.003, 1100), (0.03, 1000), (0.1, 120), (0.5, 12)]
)
def test_clear_cases_stop_soon(rate: float, most: int) -> None:
    runs = _runs(ONE_PERCENT, rate, seed=3, horizon=20_000 if rate < 0.1 else 1000)
    right = runs.passed if rate < 0.01 else runs.refuted
    assert right.mean() > 0.95
    assert runs.stopped.mean() < most


def test_bounds_of_a_run_that_stops_hold_at_its_end() -> None:
    """Stopping where the answer is welcome: the bounds given there cover the true rate."""
    rate, target = 0.008, Target(k=1.0, confidence=0.9, score=0.9)
    generator, broken_upper, broken_lower = np.random.default_rng(4), 0, 0
    for _ in range(2000):
        failed = np.cumsum(generator.random(3000) < rate)
        ends = [
            n for n in range(400, 3001, 100) if outcome(int(failed[n - 1]), n, target) != "open"
        ]
        last = ends[0] if ends else 3000
        broken_upper += anytime_upper(int(failed[last - 1]), last, 0.9, aim=0.01) < rate
        broken_lower += anytime_lower(int(failed[last - 1]), last, 0.9) > rate
    assert max(broken_upper, broken_lower) <= int(stats.binom.isf(1e-6, 2000, 0.1))


def test_order_statistic_covers_the_quantile_at_every_number_of_trials_at_once() -> None:
    """Uniform scores, bound of the 5th percentile; a repeat is broken if the bound is above 0.05
    after any number of trials up to 500.
    """
    ranks = np.array([anytime_rank(n, 0.05, 0.9) for n in range(1, 501)])
    scores = np.random.default_rng(5).random((REPEATS, 500))
    # The r-th smallest of the first n lies above 0.05 exactly if fewer than r of them lie below it.
    below = np.cumsum(scores <= 0.05, axis=1)
    broken = (below < ranks).any(axis=1).sum()
    assert 0 < broken <= _largest_count(0.1)
