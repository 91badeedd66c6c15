from __future__ import annotations

import pytest

from cimrobust.errors import UsageError
from cimrobust.planning.time_span import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "30 min", "0s", "5m1h", "-3s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="time must be like 90s, 30m, 2h"):
        seconds_of(text)
