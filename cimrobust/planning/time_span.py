"""A time as a user gives it: 90s, 30m, 2h, or parts of it together."""

from __future__ import annotations

import re

from cimrobust.errors import UsageError

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = (3600.0, 60.0, 1.0)


def seconds_of(text: str) -> float:
    """Return a time in seconds.

    Args:
        text: Hours, minutes and seconds in this order, each with its letter.

    Raises:
        UsageError: It is none, or zero.
    """
    found = _SPAN.fullmatch(text.strip())
    seconds = (
        0.0
        if found is None
        else sum(
            float(part) * size for part, size in zip(found.groups(), _SECONDS, strict=True) if part
        )
    )
    if seconds == 0:
        raise UsageError(
            f"time must be like 90s, 30m, 2h or 1h30m and above zero, got '{text}' (--time); write"
            " hours, minutes and seconds, each with its letter"
        )
    return seconds
