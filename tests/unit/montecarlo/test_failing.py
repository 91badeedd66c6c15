"""What splitting refuses to start."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cimrobust.errors import UsageError
from cimrobust.montecarlo import failing
from cimrobust.montecarlo.splitting import Splitting


def test_populations_beyond_memory_are_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"population must fit in .* GiB, got .* \(option --particles\); use at most 42$",
    ):
        failing._check_memory(50_000_000, 100)


def test_a_population_that_just_fits_is_taken() -> None:
    failing._check_memory(2**31 // 100, 100)
    with pytest.raises(UsageError, match="use at most 99"):
        failing._check_memory(2**31 // 100 + 1, 100)


@pytest.mark.parametrize("repeats", [0, -1])
def test_no_repeat_is_no_estimate(repeats: int) -> None:
    nothing = cast("Any", None)
    with pytest.raises(UsageError, match=f"number of repeats must be at least 1, got {repeats};"):
        failing.rare_failures(nothing, nothing, below=0.5, settings=Splitting(), repeats=repeats)
