"""What splitting refuses to start."""

from __future__ import annotations

import pytest

from cimrobust.errors import UsageError
from cimrobust.montecarlo import failing


def test_populations_beyond_memory_are_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"population must fit in .* GiB, got .* \(option --particles\); use at most 42$",
    ):
        failing._check_memory(50_000_000, 100)
