"""The normal distribution; `scipy.special` is imported by the first who asks for a number of it."""

from __future__ import annotations

from typing import Any


def ndtr(z: Any) -> Any:
    """Return ``P(Z <= z)``; a number or an array."""
    # A profile is read and a network is placed without, and the import takes as long as both.
    from scipy import special  # noqa: PLC0415

    return special.ndtr(z)


def ndtri(probability: Any) -> Any:
    """Return the quantile at a probability, a number or an array."""
    from scipy import special  # noqa: PLC0415  # as above

    return special.ndtri(probability)
