"""What is proven of every chip within the tolerance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate import models
from cimrobust.certify.octaves import OCTAVES
from cimrobust.certify.per_sample import PerSample, per_sample
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence

_SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)


def certified(evidence: Evidence) -> models.Certified:
    """Describe the certified bound, or why there is none."""
    found = evidence.certification
    if found.score is None:
        return models.Certified(
            score=None,
            reason=str(found.refusal),
            correct=None,
            samples=evidence.runtime.clean.num_samples,
            method=None,
            operators={},
            curve=[],
            curve_samples=0,
            largest_tolerance=None,
            largest_tolerance_reason="there is no certified bound",
        )
    tolerance = tolerance_fraction(evidence.placement.profile)
    table = per_sample(found, tolerance)
    return models.Certified(
        score=finite(found.score.value),
        reason=None,
        correct=found.score.count,
        samples=found.score.num_samples,
        method=found.method,
        operators=dict(found.operators),
        curve=[
            models.CertifiedPoint(
                box_size=point.scale,
                tolerance_fraction=point.scale * tolerance,
                score=finite(point.score.value),
                correct=point.score.count,
            )
            for point in found.curve
        ],
        curve_samples=found.curve_samples,
        largest_tolerance=(
            None if table is None else largest_tolerance(table, tolerance, found.steps)
        ),
        largest_tolerance_reason=(
            "errors are bounded, and no size of error makes a sample wrong"
            if table is None
            else None
        ),
    )


def largest_tolerance(table: PerSample, tolerance: float, steps: int) -> models.LargestTolerance:
    """Describe the largest tolerances at which samples are certified.

    Args:
        table: What is proven of every sample.
        tolerance: The stated tolerance, a fraction of the conductance range.
        steps: Tolerances tried to every doubling.
    """
    asked = np.sort(table.largest[~np.isnan(table.largest)])[::-1]
    edges = [tolerance * 2.0**power for power in range(OCTAVES[0], OCTAVES[1] + 1)]
    places = [float(asked[math.ceil(share * len(asked)) - 1]) for share in _SHARES]
    return models.LargestTolerance(
        samples=len(asked),
        uncertified=int((asked == 0).sum()),
        smallest_tried=edges[0],
        largest_tried=edges[-1],
        steps_per_octave=steps,
        held=[
            models.CertifiedShare(share=share, tolerance_fraction=place if place > 0 else None)
            for share, place in zip(_SHARES, places, strict=True)
        ],
        histogram=models.Histogram(
            edges=edges, counts=[int(count) for count in np.histogram(asked, bins=edges)[0]]
        ),
    )


def checks(evidence: Evidence) -> list[models.Check]:
    """List the self-check that the bound passed; none without a bound."""
    if evidence.certification.certified is None:
        return []
    return [
        models.Check(
            id="certified_unbroken",
            text=(
                "No certified sample is broken by the worst chip found, and no drawn chip scores"
                " below the certified bound."
            ),
            held=True,
            detail=(
                f"{int(evidence.certification.certified.sum())} certified samples,"
                f" {evidence.trials.num_trials} drawn chips"
            ),
        )
    ]
