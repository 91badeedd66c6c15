"""What `devices fit` prints as it was found."""

from __future__ import annotations

from cimrobust.records import Count, Record


class FittedTarget(Record):
    """How well the profile describes the devices of one target."""

    target: float
    """Normalised conductance."""
    devices: Count
    """Devices measured."""
    mean: float
    """Mean deviation, fraction of the full range."""
    sd: float
    """Standard deviation."""
    low: float
    """Smallest deviation."""
    high: float
    """Largest deviation."""
    distance: float
    """Largest distance of the distribution functions of measurement and profile."""
    significant: float
    """What the distance stays below at 99 % confidence if the profile is right."""
