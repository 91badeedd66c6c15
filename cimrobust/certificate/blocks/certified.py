"""What is proven of every chip within the tolerance."""

from __future__ import annotations

from cimrobust.certificate import models
from cimrobust.certificate.blocks.results import finite
from cimrobust.certificate.evidence import Evidence


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
        )
    tolerance = evidence.placement.profile.tolerance_fraction()
    return models.Certified(
        score=finite(found.score.value),
        reason=None,
        correct=found.score.count,
        samples=found.score.num_samples,
        method=found.method,
        operators=dict(found.operators),
        curve=[
            models.CertifiedPoint(
                box_size=point.scale, tolerance_fraction=point.scale * tolerance, score=finite(point.score.value), correct=point.score.count
            )
            for point in found.curve
        ],
        curve_samples=found.curve_samples,
    )


def checks(evidence: Evidence) -> list[models.Check]:
    """List the self-check that the bound passed; none without a bound."""
    if evidence.certification.certified is None:
        return []
    return [
        models.Check(
            id="certified_unbroken",
            text="No certified sample is broken by the worst chip found, and no drawn chip scores below the certified bound.",
            held=True,
            detail=f"{int(evidence.certification.certified.sum())} certified samples, {evidence.trials.num_trials} drawn chips",
        )
    ]
