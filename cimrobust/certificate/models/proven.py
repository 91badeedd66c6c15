"""The certified bound."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count, Fraction
from cimrobust.certificate.models.chips import Histogram


class CertifiedPoint(Block):
    """What is proven of a box whose intervals are `box_size` times those of the tolerance box."""

    box_size: float
    tolerance_fraction: float
    score: float
    correct: Count | None


class CertifiedShare(Block):
    """The largest tolerance tried at which at least `share` of the samples are certified; null where even the smallest has fewer."""

    share: Fraction
    tolerance_fraction: float | None


class LargestTolerance(Block):
    """The largest tolerance at which each sample is certified, over the first `samples` samples.

    Tolerances tried are `steps_per_octave` to every doubling from `smallest_tried` to `largest_tried`. `uncertified` samples are not certified at the smallest; a sample
    certified at the largest may be at larger ones. The histogram counts the others by tolerance, doubling from edge to edge, the last edge included.
    """

    samples: Count
    uncertified: Count
    smallest_tried: float
    largest_tried: float
    steps_per_octave: Count
    held: list[CertifiedShare]
    histogram: Histogram


class Certified(Block):
    """Sound bound for every chip of the box: the least accuracy, or the largest error; the curve is over the first `curve_samples` samples."""

    score: float | None
    reason: str | None
    correct: Count | None
    samples: Count
    method: str | None
    operators: dict[str, Count]
    curve: list[CertifiedPoint]
    curve_samples: Count
    largest_tolerance: LargestTolerance | None
    largest_tolerance_reason: str | None
