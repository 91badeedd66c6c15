"""What a search on one half of the samples says of the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cimrobust.diagnose.diagnose_records import TransferDirection

CONFIDENCE = 0.95
#: Share of the loss that held-out samples suffer, from which on it counts as the chip's, and up
#: to which as the samples'.
CHIP_SHARE, SAMPLES_SHARE = 0.8, 0.2

Property = Literal["chip", "samples", "both", "too little damage"]

#: What a certificate says of each.
MEANINGS: Mapping[Property, str] = {
    "chip": (
        "Property of the chip: samples that the search never saw suffer at least"
        f" {100 * CHIP_SHARE:.0f} % of the damage, both ways."
    ),
    "samples": (
        f"Property of the samples: others suffer at most {100 * SAMPLES_SHARE:.0f} % of the damage,"
        " both ways; the worst chip was fitted to the samples."
    ),
    "both": "Partly a property of the samples: others suffer some of the damage, not all of it.",
    "too little damage": (
        "The worst chip costs less than chance may make or hide on so few samples, so nothing can"
        " be said of others."
    ),
}


@dataclass(frozen=True)
class Transfer:
    """Both directions.

    Attributes:
        directions: First half to second, second to first.
        property_of: ``chip``: other samples suffer nearly the same; ``samples``: they hardly
            suffer; ``both``: between; ``too little damage`` to tell on so many samples.
        effort: Effort of each search.
    """

    directions: tuple[TransferDirection, ...]
    property_of: Property
    effort: str


def property_of(directions: Sequence[TransferDirection]) -> Property:
    """Tell what the loss belongs to.

    By the share of it that held-out samples suffer in either direction.
    """
    shares = [direction.share for direction in directions if direction.share is not None]
    if len(shares) < len(directions):
        return "too little damage"
    if min(shares) >= CHIP_SHARE:
        return "chip"
    return "samples" if max(shares) <= SAMPLES_SHARE else "both"
