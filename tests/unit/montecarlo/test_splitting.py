from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cimrobust.errors import UsageError
from cimrobust.montecarlo.rare_failures import first_order, pool
from cimrobust.montecarlo.splitting import Repeat, Splitting, splitting
from cimrobust.progress import NullProgress
from cimrobust.run import Run
from tests.point_scores import split_by

SMALL = Splitting(particles=20, killed=2, moves=5, budget=5000)


class Counter(NullProgress):
    def __init__(self) -> None:
        self.done = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps


def _first(point: np.ndarray) -> float:
    return float(2.5 - point[0])


def test_workers_change_nothing_and_every_evaluation_is_counted() -> None:
    counters = [Counter(), Counter()]
    runs = [
        split_by(_first, 6, SMALL, Run(1, workers, progress=counter), repeat=0)
        for workers, counter in zip((1, 4), counters, strict=True)
    ]
    assert runs[0] == runs[1]
    assert [counter.done for counter in counters] == [runs[0].evaluations] * 2


def test_seeds_and_repeats_are_runs_of_their_own() -> None:
    runs = {
        split_by(_first, 6, SMALL, Run(seed), repeat=repeat).levels
        for seed, repeat in ((1, 0), (1, 1), (2, 0))
    }
    assert len(runs) == 3


def test_levels_fall_and_departures_add_up() -> None:
    run = split_by(_first, 6, SMALL, Run(1), repeat=0)
    assert run.reached
    assert list(run.levels) == sorted(run.levels, reverse=True)
    assert run.rates[:4] == (20, 19, 20, 19)
    ends = [
        rate for rate, after in zip(run.rates, [*run.rates[1:], 20], strict=True) if after == 20
    ]  # the last to leave at every level
    assert len(ends) == len(run.levels) + (run.next_rate < 20)
    assert ends[-1] - 1 == run.next_rate
    assert run.log_probability == pytest.approx(sum(math.log((rate - 1) / 20) for rate in ends))
    assert run.nearest is not None
    assert run.nearest >= 2.5


def test_a_certain_event_needs_no_level() -> None:
    norms: list[float] = []

    def certain(point: np.ndarray) -> float:
        norms.append(float(np.linalg.norm(point)))
        return -1.0

    run = split_by(certain, 3, SMALL, Run(1), repeat=0)
    found = pool([run])
    assert (run.levels, run.rates, run.evaluations) == ((), (), 20)
    assert run.nearest == min(norms) < max(norms)
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low < 1.0


def test_a_plateau_is_said_to_be_one() -> None:
    run = split_by(lambda point: 1.0, 3, SMALL, Run(1), repeat=0)
    assert not run.reached
    assert "score the same" in run.reason


def test_an_event_beyond_the_budget_gets_an_upper_bound_only() -> None:
    runs = [
        split_by(
            lambda point: float(40 - point[0]),
            3,
            SMALL,
            Run(1),
            repeat=repeat,
        )
        for repeat in (0, 1)
    ]
    found = pool(runs)
    assert (found.estimate, found.low, found.reliability_index) == (None, 0.0, None)
    assert "budget of 5000" in found.reason
    assert max(run.evaluations for run in runs) <= 5000
    assert found.high >= math.exp(np.mean([run.log_probability for run in runs]))


def test_one_departure_at_a_time_gives_the_poisson_interval() -> None:
    run = Repeat(
        log_probability=50 * math.log(0.99),
        reason="",
        rates=(100,) * 50,
        next_rate=100,
        levels=(),
        evaluations=0,
        accepted=0.0,
        nearest=None,
    )
    found = pool([run])
    assert found.high == pytest.approx(math.exp(-stats.gamma.ppf(0.025, 50) / 100))
    assert found.low == pytest.approx(math.exp(-stats.gamma.ppf(0.975, 51) / 100))
    assert found.widened == 1.0


def test_first_order_probability_is_compared_with_the_interval() -> None:
    run = Repeat(math.log(1e-6), "", (100,) * 1381, 100, (), 0, 0.0, None)
    found = pool([run, run])
    assert found.reliability_index == pytest.approx(4.7534, abs=1e-4)
    near, far = first_order(4.75, found), first_order(6.0, found)
    assert (near.agrees, far.agrees) == (True, False)
    assert near.probability == pytest.approx(stats.norm.sf(4.75))
    assert far.ratio == pytest.approx(stats.norm.sf(6.0) / 1e-6)


def test_first_order_beside_a_failure_that_was_not_reached() -> None:
    run = Repeat(math.log(1e-6), "too rare", (100,) * 1381, 100, (), 0, 0.0, None)
    found = pool([run, run])
    assert (found.estimate, found.low, found.reason) == (None, 0.0, "too rare")
    inside, far = first_order(6.0, found), first_order(3.0, found)
    assert (inside.ratio, inside.agrees, far.agrees) == (None, None, False)
    assert inside.log10_probability == pytest.approx(stats.norm.logsf(6.0) / math.log(10))


def test_repeats_that_disagree_widen_the_interval_on_both_sides() -> None:
    rates = ((100,) * 40, (50,) * 60)
    runs = [
        Repeat(log, "", own, own[0], (), 0, 0.0, None)
        for log, own in zip((-4.0, -7.0), rates, strict=True)
    ]
    found = pool(runs, confidence=0.9)
    # Mean and variance of a sum of exponential times, and the Gamma that has both.
    ends = []
    for tail, counts in ((0.05, (40, 60)), (0.95, (41, 61))):
        mean = counts[0] / 100 + counts[1] / 50
        variance = counts[0] / 100**2 + counts[1] / 50**2
        ends.append(stats.gamma.ppf(tail, mean**2 / variance, scale=variance / mean) / 2)
    ideal = math.sqrt(40 / 100**2 + 60 / 50**2) / 2
    widened = np.std([-4.0, -7.0], ddof=1) / math.sqrt(2) / ideal
    assert found.widened == pytest.approx(widened)
    assert widened > 5
    assert found.low == pytest.approx(math.exp(-(5.5 + widened * (ends[1] - 5.5))))
    assert found.high == pytest.approx(min(1.0, math.exp(-(5.5 - widened * (5.5 - ends[0])))))
    assert found.estimate == pytest.approx((math.exp(-4.0) + math.exp(-7.0)) / 2)
    assert pool([runs[0]]).widened == 1.0


def test_reasons_are_said_once_each() -> None:
    runs = [Repeat(-1.0, reason, (10,), 10, (), 0, 0.0, None) for reason in ("a", "", "b", "a")]
    assert pool(runs).reason == "a; b"


def test_the_least_that_splitting_may_be() -> None:
    Splitting(particles=10, killed=5, moves=1, budget=15).check()
    Splitting(particles=11, killed=1, moves=1, budget=12).check()
    for settings in (
        Splitting(particles=11, killed=6),
        Splitting(killed=0),
        Splitting(particles=10, killed=5, moves=1, budget=14),
    ):
        with pytest.raises(UsageError):
            settings.check()


def test_the_step_finds_a_share_of_accepted_moves() -> None:
    # Halved or doubled steps would leave the band that random walks need.
    settings = Splitting(particles=40, killed=4, moves=10, budget=20_000)
    run = split_by(lambda point: float(20 - point.sum()), 16, settings, Run(1), repeat=0)
    assert run.reached
    assert 0.2 < run.accepted < 0.45


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Splitting(particles=9), "at least 10"),
        (
            Splitting(killed=60),
            "splitting must have at least 10 particles, replace between 1 and half",
        ),
        (Splitting(moves=0), "move"),
        (Splitting(budget=249), "budget must pay for the first level, .* evaluations, got 249"),
    ],
)
def test_senseless_settings_are_refused(settings: Splitting, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_by(_first, 3, settings, Run(1), repeat=0)


def test_a_tenth_of_the_particles_is_replaced_at_each_level() -> None:
    assert splitting() == Splitting(particles=100, killed=10, budget=40_000)
    assert splitting(9_000, 35) == Splitting(particles=35, killed=3, budget=9_000)
    with pytest.raises(UsageError):
        splitting(10, 5)
