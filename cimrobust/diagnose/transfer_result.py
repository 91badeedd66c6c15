"""What a search on one half of the samples says of the other half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cimrobust.diagnose.diagnose_records import TransferDirection

CONFIDENCE = 0.95
#: Share of the loss that held-out samples suffer, from which on it counts as the chip's, and up
#: to which as the samples'.
CHIP_SHARE, SAMPLES_SHARE = 0.8, 0.2

Property = Literal["chip", "samples", "both", "too little damage"]


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
