from __future__ import annotations

import numpy as np
import pytest

from cimrobust.reliability.limit_state import LimitState

_ERRORS = np.random.default_rng(0).normal(size=40)
_METRICS = {
    "rmse": lambda e: np.sqrt((e**2).mean()),
    "mae": lambda e: np.abs(e).mean(),
    "mse": lambda e: (e**2).mean(),
}


@pytest.mark.parametrize("units", [np.ones(40), np.random.default_rng(1).uniform(0.5, 2.0, 40)])
@pytest.mark.parametrize("wrong", [3.5, 14.5, 33.5])
def test_the_stand_in_becomes_the_order_statistic(wrong: float, units: np.ndarray) -> None:
    ordered = np.sort(-_ERRORS / units)[::-1]
    state = LimitState("accuracy", 0.9, wrong, units)
    apart = [
        abs(state.at(_ERRORS, neighbours).value - ordered[int(wrong)]) for neighbours in (20, 2)
    ]
    assert apart[1] <= float(np.sort(np.abs(ordered - ordered[int(wrong)]))[2])
    assert apart[1] <= apart[0] + 1e-9


@pytest.mark.parametrize(
    ("metric", "wrong"), [("accuracy", 6.5), ("rmse", None), ("mae", None), ("mse", None)]
)
def test_factors_are_the_derivatives(metric: str, wrong: float | None) -> None:
    """The width follows the margins, and is no part of the derivative: with it held, a smoothed
    order statistic has weights that add up to one.
    """
    state = LimitState(metric, 0.9, wrong, np.ones(40))
    reach = state.at(_ERRORS, 8)
    if wrong is not None:
        assert reach.factors.sum() == pytest.approx(-1.0)
        distance = np.abs(-_ERRORS - reach.value)
        assert distance[reach.factors.argmin()] == distance.min()
        return
    for index in (0, 7, 21):
        moved = _ERRORS.copy()
        moved[index] += 1e-6
        assert (state.at(moved, 8).value - reach.value) / 1e-6 == pytest.approx(
            reach.factors[index], rel=1e-3, abs=1e-7
        )
    assert reach.value == pytest.approx(_METRICS[metric](_ERRORS) - 0.9)


def test_a_maximum_is_smoothed_from_below() -> None:
    largest = float(np.abs(_ERRORS).max())
    wide, narrow = (
        LimitState("max_error", 0.0, None, np.ones(40)).at(_ERRORS, neighbours)
        for neighbours in (8, 1)
    )
    assert wide.value <= narrow.value <= largest
    assert abs(narrow.factors).sum() == pytest.approx(1.0)
    assert abs(narrow.factors).argmax() == np.abs(_ERRORS).argmax()


def test_outputs_that_are_no_numbers_count_as_failing() -> None:
    margins = np.full(10, 1.0)
    state = LimitState("accuracy", 0.9, 1.5, np.ones(10))
    before = state.at(margins, 2).value
    margins[:2] = np.nan, -np.inf
    assert before < 0.0 <= state.at(margins, 2).value
