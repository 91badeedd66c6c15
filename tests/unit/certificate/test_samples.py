"""Which accuracies get an interval for the finite evaluation set, and with which words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import binom

from cimrobust.certificate.blocks.samples_block import evaluation_set


def _evidence(
    *,
    labels: Any = (),
    positions: int = 1,
    is_regression: bool = False,
    converters: Any = None,
    is_sequential: bool = False,
    certified: Any = None,
) -> Any:
    score = SimpleNamespace(value=0.9)
    task = SimpleNamespace(
        is_regression=is_regression, num_decisions=50 * positions, most_decisions=positions
    )
    runtime = SimpleNamespace(
        dataset=SimpleNamespace(num_samples=50, labels=labels),
        task=task,
        clean=score,
        quantised=score,
        converters=converters,
    )
    return SimpleNamespace(
        runtime=runtime,
        trials=SimpleNamespace(mean=0.9, is_sequential=is_sequential),
        search=SimpleNamespace(score=score),
        certification=SimpleNamespace(score=certified),
    )


def test_every_accuracy_has_an_interval_around_it() -> None:
    block = evaluation_set(_evidence(converters=SimpleNamespace(score=SimpleNamespace(value=0.9))))
    assert [row.name for row in block.intervals] == [
        "clean",
        "quantised",
        "converters",
        "mean",
        "worst_found",
    ]
    assert all(row.low < 0.9 < row.high for row in block.intervals)
    assert [row.name for row in block.intervals if row.method != "Clopper-Pearson"] == ["mean"]


def test_only_the_chip_that_was_searched_for_has_a_caveat() -> None:
    assert [row.name for row in evaluation_set(_evidence()).intervals if row.caveat] == [
        "worst_found"
    ]


def test_several_decisions_a_sample_are_not_taken_for_samples() -> None:
    one, nine = (evaluation_set(_evidence(positions=positions)) for positions in (1, 9))
    assert (nine.samples, nine.decisions) == (50, 450)
    assert (
        nine.intervals[0].high - nine.intervals[0].low
        > one.intervals[0].high - one.intervals[0].low
    )


def test_values_of_a_regression_are_no_decisions() -> None:
    """Its scores count samples, and a gate holds one number to the other."""
    block = evaluation_set(_evidence(positions=4, is_regression=True))
    assert (block.samples, block.decisions, block.most_decisions) == (50, 50, 1)


@pytest.mark.parametrize(
    ("more", "name", "reason"),
    [
        ({"is_regression": True}, "all", "no upper limit"),
        ({"labels": None}, "clean", "own decisions"),
        ({"is_sequential": True}, "mean", "could stop early"),
    ],
)
def test_what_gets_no_interval_says_why(more: dict[str, Any], name: str, reason: str) -> None:
    block = evaluation_set(_evidence(**more))
    assert reason in next(row.reason for row in block.not_stated if row.name == name)
    assert name not in {row.name for row in block.intervals}


def test_what_is_certified_holds_for_all_chips_at_once_on_fresh_samples_too() -> None:
    row = evaluation_set(_evidence(certified=SimpleNamespace(value=0.5))).intervals[-1]
    assert (row.name, row.score, row.high) == ("certified", 0.5, 1.0)
    # one-sided: 25 of 50 or more have probability 5 % where the bound is the true share
    assert binom.sf(24, 50, row.low) == pytest.approx(0.05)
    assert "every chip within the tolerance, all of them at once" in row.statement
    assert "certified" not in {row.name for row in evaluation_set(_evidence()).intervals}


@pytest.mark.parametrize(
    ("positions", "method"),
    [(1, "Clopper-Pearson, one-sided"), (3, "Chernoff-Hoeffding, one-sided")],
)
def test_a_certified_share_of_dependent_decisions_is_not_binomial(
    positions: int, method: str
) -> None:
    stated = evaluation_set(_evidence(positions=positions, certified=SimpleNamespace(value=0.5)))
    row = next(row for row in stated.intervals if row.name == "certified")
    assert row.method == method
    assert row.high == 1.0
