"""The certified bound."""

from __future__ import annotations

from cimrobust.certificate.models.chips import Histogram
from cimrobust.records import Count, Fraction, Record


class CertifiedPoint(Record):
    """What is proven of a box whose intervals are `box_size` times those of the tolerance box."""

    box_size: float
    """Intervals of the box over those of the tolerance box."""
    tolerance_fraction: float
    """Write-verify tolerance, fraction of the full conductance range."""
    score: float
    """Certified score: no chip of this box is worse."""
    correct: Count | None
    """Decisions that are certified; null for a regression."""


class CertifiedShare(Record):
    """The largest tolerance tried at which at least `share` of the samples are certified.

    Null where even the smallest has fewer.
    """

    share: Fraction
    """Share of the samples."""
    tolerance_fraction: float | None
    """Largest tolerance tried at which at least this share is certified; null: none."""


class LargestTolerance(Record):
    """The largest tolerance at which each decision is certified, over the first `samples` of them.

    Tolerances tried are `steps_per_octave` to every doubling from `smallest_tried` to
    `largest_tried`. `uncertified` ones are not certified at the smallest; one
    certified at the largest may be at larger ones. The histogram counts the others by tolerance,
    doubling from edge to edge, the last edge included.
    """

    samples: Count
    """Decisions, the first ones."""
    uncertified: Count
    """Decisions not certified at the smallest tolerance, or not tried."""
    smallest_tried: float
    """Smallest tolerance tried, fraction of the full conductance range."""
    largest_tried: float
    """Largest tolerance tried, fraction of the full conductance range."""
    steps_per_octave: Count
    """Tolerances tried in every doubling."""
    held: list[CertifiedShare]
    """Largest tolerance for several shares of them."""
    histogram: Histogram
    """Decisions by their largest certified tolerance."""


class Certified(Record):
    """Sound bound for every chip of the box: the least accuracy, or the largest error.

    The curve is over the first `curve_samples` decisions.
    """

    score: float | None
    """No chip of the tolerance box scores worse on these samples; null: no bound."""
    reason: str | None
    """Why there is no bound."""
    correct: Count | None
    """Decisions that are certified; null for a regression."""
    samples: Count
    """Decisions that it counts."""
    method: str | None
    """How the bound was made."""
    operators: dict[str, Count]
    """Operators of the network that the bound went through, with their number."""
    curve: list[CertifiedPoint]
    """Certified score over smaller boxes."""
    curve_samples: Count
    """Decisions of the curve, the first ones; of a regression, samples."""
    largest_tolerance: LargestTolerance | None
    """Largest tolerance at which single samples are certified."""
    largest_tolerance_reason: str | None
    """Why there is none."""
