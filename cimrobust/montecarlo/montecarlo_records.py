"""What certificates state of drawn chips and of rare failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.records import Count, Fraction, Record, Score

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile

#: Chips for every row of effects, by effort.
EFFECT_CHIPS = {"quick": 20, "standard": 50, "thorough": 200}


def device_effects(profile: DeviceProfile) -> tuple[str, ...]:
    """Return the effects on devices that a profile has, in the order in which they are added.

    The last has all: its chips are those that trials score.

    Args:
        profile: The device profile.
    """
    tables = {
        "stuck devices": profile.faults,
        "relaxation": profile.relaxation,
        "drift": profile.drift,
    }
    return ("programming", *(name for name, table in tables.items() if table is not None))


class Effect(Record):
    """The score with one more effect; without chips, mean, low and high are one number."""

    effect: str
    """The effect that is added."""
    mean: Score
    """Mean score."""
    low: Score
    """Lowest score."""
    high: Score
    """Highest score."""
    chips: Count
    """Chips drawn; 0 where nothing is random."""
    change: float
    """Change of the mean against the row above."""


class FirstOrderProbability(Record):
    """The first-order probability of a failing chip beside that of splitting.

    `probability` is 0 where float64 cannot hold it, from about beta 38. Where splitting did not
    reach the event, no more can be said than that it is not above the upper bound.
    """

    reliability_index: float
    """Norm of the most probable failing chip, at least the true index beta."""
    probability: Fraction
    """Phi(-beta), its first-order failure probability."""
    log10_probability: float
    """Its decimal logarithm, for probabilities too small for a float."""
    ratio: float | None
    """First-order probability over that of splitting."""
    agrees: bool | None
    """Whether it lies in the interval of splitting; null: splitting did not reach the event."""
