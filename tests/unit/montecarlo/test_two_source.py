from __future__ import annotations

import numpy as np
import pytest

from cimrobust.montecarlo.quantile import bound_rank, clopper_pearson_lower
from cimrobust.montecarlo.sample_uncertainty import hoeffding_lower
from cimrobust.montecarlo.two_source import two_source_bound


@pytest.mark.parametrize(("num_samples", "expected"), [(500, 0.905), (2000, 0.930), (10000, 0.942)])
def test_bound_on_worked_numbers(num_samples: int, expected: float) -> None:
    result = two_source_bound(np.full(1000, 0.95), num_decisions=num_samples)
    assert result.bound is not None
    assert round(result.bound, 3) == expected or result.bound == pytest.approx(expected, abs=6e-4)
    assert result.needed_trials == 736


def test_too_few_trials_give_no_bound() -> None:
    result = two_source_bound(np.full(735, 0.95), num_decisions=2000)
    assert (result.bound, result.observed, result.rank, result.needed_trials) == (
        None,
        None,
        0,
        736,
    )
    assert two_source_bound(np.full(736, 0.95), num_decisions=2000).rank == 1


def test_every_number_of_the_formula_is_stated() -> None:
    scores = np.arange(1000) / 1000
    result = two_source_bound(scores, num_decisions=1000, k=5.0, confidence=0.9)
    assert (result.spared, result.chip_error, result.sample_error) == (
        0.025,
        pytest.approx(0.05),
        pytest.approx(0.05),
    )
    assert result.rank == bound_rank(1000, 0.025, 0.95)
    assert result.observed == scores[result.rank - 1]
    assert result.bound == pytest.approx(
        clopper_pearson_lower(result.rank - 1, 1000, 1 - 0.05 * 0.025), rel=1e-12
    )


def test_several_decisions_a_sample_count_as_one_draw() -> None:
    alone = two_source_bound(np.full(1000, 0.95), num_decisions=500)
    many = two_source_bound(np.full(1000, 0.95), num_decisions=5000, num_inputs=500)
    assert many.method == "Chernoff-Hoeffding"
    assert many.bound == pytest.approx(hoeffding_lower(0.95, 500, 1 - 0.025 * 0.005), rel=1e-12)
    assert alone.bound is not None
    assert many.bound < alone.bound


@pytest.mark.parametrize(
    ("num_inputs", "most", "method"),
    [
        (None, None, "Clopper-Pearson"),
        (500, 1, "Clopper-Pearson"),
        (500, 4, "Chernoff-Hoeffding"),
        (250, 2, "Chernoff-Hoeffding"),
    ],
)
def test_the_bound_is_exact_only_where_a_sample_has_one_decision(
    num_inputs: int | None, most: int | None, method: str
) -> None:
    found = two_source_bound(
        np.full(1000, 0.95), num_decisions=500, num_inputs=num_inputs, most=most
    )
    assert (found.method, found.num_inputs) == (method, num_inputs or 500)
    if method == "Chernoff-Hoeffding":
        fill = 500 / (found.num_inputs * (most or 1))
        assert found.bound == hoeffding_lower(0.95, found.num_inputs, 1 - 0.025 * 0.005, fill=fill)
