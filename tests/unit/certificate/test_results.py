"""What was measured, as blocks of the certificate."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certificate.blocks.drawn_chips import monte_carlo
from cimrobust.montecarlo.trial_table import TrialTable


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
