"""What was measured, as blocks of the certificate."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.certificate.policy import Policy
from cimrobust.montecarlo.anytime import needed_anytime
from cimrobust.montecarlo.trial_table import TrialTable

LARGEST = sys.float_info.max


def table(value: np.ndarray) -> TrialTable:
    return TrialTable(
        trial=np.arange(len(value)),
        seed=3,
        value=value,
        count=np.round(value * 200).astype(np.int64),
        num_samples=200,
        metric="accuracy",
        higher_is_better=True,
    )


def test_chips_that_all_score_the_same_make_one_narrow_bin() -> None:
    histogram = monte_carlo(table(np.full(40, 0.95)), None, num_inputs=200).histogram
    assert histogram.counts == [40]
    assert histogram.edges == pytest.approx([0.94525, 0.95475])


def test_chips_that_differ_are_binned_over_their_range() -> None:
    histogram = monte_carlo(table(np.linspace(0.9, 0.95, 40)), None, num_inputs=200).histogram
    assert (sum(histogram.counts), len(histogram.counts)) == (40, 24)
    assert (histogram.edges[0], histogram.edges[-1]) == pytest.approx((0.9, 0.95))


@pytest.mark.parametrize(
    ("errors", "mean"),
    [([1.0, 2.0, np.inf], LARGEST), ([1.0, np.inf, np.nan], LARGEST), ([np.inf] * 3, LARGEST)],
)
def test_errors_without_end_are_the_largest_number(errors: list[float], mean: float) -> None:
    trials = TrialTable(np.arange(3), np.array(errors), None, 20, 0, "rmse", False)
    made = monte_carlo(trials, None, num_inputs=20)
    assert (made.mean, made.std, made.max) == (mean, LARGEST, LARGEST)
    assert made.min == min(error if np.isfinite(error) else LARGEST for error in errors)
    assert (sum(made.histogram.counts), made.histogram.edges[-1]) == (3, LARGEST)
    assert made.kpp[0].score == LARGEST


def test_bins_are_those_of_numpy() -> None:
    value = np.random.default_rng(5).normal(0.9, 0.01, 60)
    counts, edges = np.histogram(value, bins=24)
    histogram = monte_carlo(table(value), None, num_inputs=200).histogram
    assert (histogram.counts, histogram.edges) == (counts.tolist(), edges.tolist())


def test_a_run_that_could_stop_says_whether_it_was_decided() -> None:
    policy = Policy.model_validate(
        {"require": {"kpp": {"k": 1, "confidence": 0.95, "accuracy": 0.9}}}
    )
    needed = needed_anytime(0.01, 0.95)
    for value, stopped, outcome, failures in (
        (np.full(needed, 0.95), True, "met", 0),
        (np.full(needed - 1, 0.95), False, "open", 0),
        (np.full(2, 0.5), True, "refuted", 2),
    ):
        trials = replace(table(value), max_trials=5000)
        made = monte_carlo(trials, policy, num_inputs=200).stopping
        assert made is not None
        assert (made.stopped, made.max_trials) == (stopped, 5000)
        assert [(row.outcome, row.failures, row.threshold) for row in made.targets] == [
            (outcome, failures, 0.9)
        ]
        assert ("were decided" if stopped else "ended undecided") in made.statement
    assert monte_carlo(table(np.full(5, 0.95)), policy, num_inputs=200).stopping is None
