"""What diagnostics find beyond their records: patterns, and numbers to be put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cimrobust.array_shapes import Float32
from cimrobust.data.decision import Score
from cimrobust.diagnose.diagnose_records import TransferDirection

CONFIDENCE = 0.95
#: Share of the loss that held-out samples suffer, from which on it counts as the chip's, and up
#: to which as the samples'.
CHIP_SHARE, SAMPLES_SHARE = 0.8, 0.2

Property = Literal["chip", "samples", "both", "too little damage"]


@dataclass(frozen=True)
class Transfer:
    """What a search on one half of the samples says of the other half, in both directions.

    Attributes:
        directions: First half to second, second to first.
        property_of: ``chip``: other samples suffer nearly the same; ``samples``: they hardly
            suffer; ``both``: between; ``too little damage`` to tell on so many samples.
        effort: Effort of each search.
    """

    directions: tuple[TransferDirection, ...]
    property_of: Property
    effort: str


@dataclass(frozen=True)
class SafetyClass:
    """The worst recall found of one class, replayed from a model file.

    Attributes:
        label: The class.
        clean: Its recall without deviation.
        found: Its worst recall found; a run of the witness file, with converters of the kernel.
        overall: Score of all samples on the same chip.
        member: What found the pattern.
        deviations: The pattern.
        effort: Effort of the search.
        passes: Its forward-backward passes, over the samples of the class.
        has_twin: Whether it had gradients.
        replay_note: How the replay was run.
    """

    label: int
    clean: Score
    found: Score
    overall: Score
    member: str
    deviations: Mapping[str, Float32[np.ndarray, "..."]]
    effort: str
    passes: int
    has_twin: bool
    replay_note: str
