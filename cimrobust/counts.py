"""Largest numbers that a run takes, each with its reason.

What is larger is refused before any work starts.
"""

from __future__ import annotations

import math
from numbers import Real

from cimrobust.errors import UsageError

#: Most trials of one run: their scores are held in memory, and a bound for the worst chip in a
#: million needs three of these millions.
MAX_TRIALS = 10_000_000

_MANY = (1_000_000_000, "no run of this tool ends that needs more")
_LARGEST: dict[str, tuple[int, str]] = {
    "trials": (MAX_TRIALS, "their scores are held in memory"),
    "seed": (2**63 - 1, "it is stored as a whole number of 64 bits"),
    "limit": (2**63 - 1, "it is stored as a whole number of 64 bits"),
    "safety-class": (2**31 - 1, "no network has more classes"),
    "workers": (1024, "each is a thread with memory of its own"),
    "batch": (10_000_000, "a mini-batch is held in memory"),
    "particles": (1_000_000, "the population is held in memory"),
}


def largest(name: str) -> int:
    """Return the largest value of a count, named as its option is."""
    return _LARGEST.get(name, _MANY)[0]


def check_count(name: str, value: int | None, *, least: int = 1) -> None:
    """Raise UsageError for a count that is given and too small or too large.

    Args:
        name: Name of its option, without dashes in front.
        value: The count; None: not given.
        least: Smallest value.
    """
    if value is None:
        return
    shown = value if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"
    if value < least:
        raise UsageError(
            f"{name} must be at least {least}, got {shown} (--{name}); give a larger number"
        )
    most, reason = _LARGEST.get(name, _MANY)
    if value > most:
        raise UsageError(
            f"{name} must be at most {most}, because {reason}, got {shown} (--{name}); give a"
            " smaller number"
        )


def check_number(name: str, value: float | None, *, above: float = -math.inf) -> None:
    """Raise UsageError for what is given and no number, not finite, or not above another."""
    if value is not None and not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, got {value!r} (--{name}); give one")
    if value is not None and not (math.isfinite(value) and value > above):
        rule = "finite" if above == -math.inf else f"finite and above {above:g}"
        raise UsageError(f"{name} must be {rule}, got {value} (--{name}); give another number")
