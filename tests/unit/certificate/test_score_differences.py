"""Two certificates side by side: what chance explains is not called a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.compared_certificates import ComparedScore
from cimrobust.certificate.score_differences import Side, compare_scores, upper_percentile
from cimrobust.certify.per_sample import PerSample
from cimrobust.montecarlo.quantile import bound_rank
from cimrobust.montecarlo.trial_table import TrialTable
from tests.unit.certificate.partial import partial


def side(
    *,
    mean: tuple[float, float | None, float | None] = (0.9, 0.88, 0.92),
    kpp: dict[float, tuple[float, float]] | None = None,
    certified: tuple[bool, ...] | None = None,
    metric: str = "accuracy",
    trials: np.ndarray | None = None,
    stated_trials: int = 300,
    decisions: int = 50,
    converters: float | None = None,
) -> Side:
    score, low, high = mean
    known = [{"name": "mean", "low": low, "high": high}] if low is not None else []
    plain: dict[str, Any] = {
        "metric": {"name": metric, "higher_is_better": metric == "accuracy"},
        "converters": None if converters is None else {"score": converters},
        "clean": {"quantised_score": 0.9, "samples": 50},
        "data": {"used": 50},
        "evaluation_set": {"intervals": known},
        "monte_carlo": {
            "mean": score,
            "trials": stated_trials,
            "kpp": [
                {"k": k, "score": found, "lower_bound": bound, "confidence": 0.95}
                for k, (found, bound) in (kpp or {}).items()
            ],
        },
        "worst_found": {"score": 0.5},
        "certified": {
            "score": None if certified is None else float(np.mean(certified)),
            "samples": decisions,
        },
    }
    table = None
    if trials is not None:
        higher = metric == "accuracy"
        table = TrialTable(np.arange(trials.size), trials, None, 50, 0, metric, higher)
    proven = None
    if certified is not None:
        flags = np.array(certified)
        proven = PerSample(flags, np.ones_like(flags), np.full(flags.size, np.nan))
    return Side(partial(CertificateModel, plain), table, proven)


def row(name: str, a: Side, b: Side, *, metric: bool = True, samples: bool = True) -> ComparedScore:
    found = compare_scores(a, b, same_metric=metric, same_samples=samples)
    return next(made for made in found if made.name == name)


@pytest.mark.parametrize(
    ("other", "beyond"),
    [
        ((0.96, 0.93, 0.98), True),
        ((0.96, 0.92, 0.98), None),
        ((0.85, 0.8, 0.87), True),
        ((0.85, 0.8, 0.88), None),
        ((0.85, None, None), None),
    ],
)
def test_intervals_that_touch_say_nothing(
    other: tuple[float, float | None, float | None], beyond: bool | None
) -> None:
    made = row("mean", side(), side(mean=other))
    assert made.beyond_chance is beyond
    assert made.difference == pytest.approx(other[0] - 0.9)
    assert made.better == ("b" if other[0] > 0.9 else "a")
    word = "higher" if other[0] > 0.9 else "lower"
    assert f"B is {abs(100 * (other[0] - 0.9)):.4g} percentage points {word}." in made.statement


def test_less_of_an_error_is_better() -> None:
    made = row("mean", side(metric="rmse"), side(metric="rmse", mean=(0.7, 0.6, 0.8)))
    assert (made.better, made.beyond_chance) == ("b", True)
    assert "B is 0.2 (unit of the target) lower." in made.statement


def test_what_measures_different_things_is_not_subtracted() -> None:
    made = row("mean", side(), side(mean=(0.96, 0.93, 0.98)), metric=False)
    assert (made.difference, made.better, made.beyond_chance) == (None, None, None)
    assert made.statement == "Scores of A and B measure different things."
    assert row("mean", side(), side()).statement == "They are equal."


def test_percentiles_of_one_side_alone_are_left_out() -> None:
    a, b = side(kpp={1.0: (0.8, 0.75), 5.0: (0.85, 0.8)}), side(kpp={5.0: (0.9, 0.85)})
    names = [made.name for made in compare_scores(a, b, same_metric=True, same_samples=True)]
    assert [name for name in names if name.startswith("kpp")] == ["kpp_5"]


def test_a_percentile_has_two_ends_where_its_own_trials_are_at_hand() -> None:
    low, high = np.linspace(0.5, 0.6, 300), np.linspace(0.8, 0.9, 300)
    a, b = (
        side(kpp={5.0: (float(values[15]), float(values[9]))}, trials=values)
        for values in (low, high)
    )
    made = row("kpp_5", a, b)
    assert a.trials is not None
    assert made.a is not None
    assert (made.a.low, made.a.high) == (low[9], upper_percentile(a.trials, 5.0))
    assert made.beyond_chance is True
    apart = row("kpp_5", a, b, samples=False)
    assert apart.beyond_chance is None
    assert "Both bounds are on samples of their own, so they are not compared." in apart.statement
    other = side(kpp={5.0: (float(low[15]), float(low[9]))}, trials=low, stated_trials=299)
    assert row("kpp_5", other, b).beyond_chance is None


def test_an_upper_bound_of_a_percentile_mirrors_the_lower_one() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    table = TrialTable(np.arange(3000), values, None, 50, 0, "accuracy", True)
    # The j-th worst is below the 90th percentile of the mirrored scores as often.
    mirrored = np.sort(-values)[bound_rank(3000, 0.9, 0.95) - 1]
    assert upper_percentile(table, 10.0) == -mirrored
    few = TrialTable(np.arange(5), values[:5], None, 50, 0, "accuracy", True)
    assert upper_percentile(few, 90.0) is None


@pytest.mark.parametrize(("only_a", "beyond"), [(5, None), (6, True)])
def test_certified_samples_are_compared_in_pairs(only_a: int, beyond: bool | None) -> None:
    """Five of one kind have p = 0.0625 in the sign test, six 0.031."""
    a = side(certified=(*(True,) * only_a, *(True,) * 20, *(False,) * (30 - only_a)))
    b = side(certified=(*(False,) * only_a, *(True,) * 20, *(False,) * (30 - only_a)))
    made = row("certified", a, b)
    assert (made.better, made.beyond_chance) == ("a", beyond)
    assert f"{only_a} are certified in A alone and 0 in B alone" in made.statement
    assert row("certified", a, b, samples=False).beyond_chance is None
    assert row("certified", a, side()).statement == "B states none."
    several = side(certified=(False,) * 50, decisions=100)
    assert row("certified", several, a).beyond_chance is None


def test_converters_are_compared_with_converters_alone() -> None:
    """Where one has none, quantised weights are compared with quantised weights."""
    made = [
        row("clean", side(converters=0.8), side(converters=0.7)),
        row("clean", side(converters=0.8), side()),
        row("clean", side(), side(converters=0.7)),
        row("clean", side(), side()),
    ]
    assert [(one.a.score, one.b.score) for one in made if one.a and one.b] == [
        (0.8, 0.7),
        (0.9, 0.9),
        (0.9, 0.9),
        (0.9, 0.9),
    ]
