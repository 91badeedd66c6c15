"""The worst score over the tolerance, and where a requirement ends on it, derived again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.certificate.policy import Policy
from cimrobust.certificate.programmed import programmed_score
from cimrobust.device.intervals import largest_programming_error, tolerance_fraction
from cimrobust.device.load_profile import profile_of
from cimrobust.diagnose.curve_grid import edges, grid_of
from cimrobust.review.stated_scores import is_share, is_worse_than_found

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.diagnosed import ToleranceCurve
    from cimrobust.diagnose.diagnose_records import TolerancePoint

_RTOL = 1e-9
# Members of diagnostics: they may have found a worse chip after the curve was made.
_LATER = "diagnostic_"
_BY_POLICY = "the policy"


def wrong_curve(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of the curve does not follow from its points, the profile and the policy.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.tolerance_curve
    if made is None:
        return
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    stated = largest_programming_error(profile)
    if not _are([point.tolerance for point in made.points], grid_of(stated)):
        yield "diagnostics.tolerance_curve.points"
        return
    found = [
        *_wrong_points(certificate, made, stated),
        *_wrong_required(certificate, made),
        *_wrong_edges(certificate, made),
        *_wrong_proof(certificate, made, tolerance_fraction(profile)),
    ]
    yield from (f"diagnostics.tolerance_curve.{name}" for name in found)


def _all_points(made: ToleranceCurve) -> list[TolerancePoint]:
    return sorted([*made.points, *made.tried], key=lambda point: point.tolerance)


def _wrong_points(
    certificate: CertificateModel, made: ToleranceCurve, stated: float
) -> Iterator[str]:
    sign = 1 if certificate.metric.higher_is_better else -1
    is_counted = certificate.metric.unit == "fraction"
    for point in _all_points(made):
        counted = (point.correct is not None) is is_counted
        if not counted or (
            is_counted and not is_share(point.score, point.correct, certificate.clean.samples)
        ):
            yield "points.score"
    # A wider tolerance allows every chip of a narrower one.
    if any(sign * later.score > sign * one.score for one, later in pairwise(_all_points(made))):
        yield "points.score"
    own = [point.score for point in made.points if _close(point.tolerance, stated)]
    worst = certificate.worst_found
    is_later = worst.member.startswith(_LATER)
    if any(
        is_worse_than_found(certificate, score)
        or not (is_later or math.isclose(score, worst.replay.engine_score, rel_tol=1e-6))
        for score in own
    ):
        yield "points.score"


def _wrong_required(certificate: CertificateModel, made: ToleranceCurve) -> Iterator[str]:
    policy = None if certificate.policy is None else Policy.model_validate(certificate.policy)
    asked = None if policy is None else next(policy.thresholds("worst_found_accuracy"), None)
    nominal = programmed_score(certificate)
    otherwise = nominal / 2 if certificate.metric.higher_is_better else 2 * nominal
    if not _close(made.required, otherwise if asked is None else asked):
        yield "required"
    if (made.required_by == _BY_POLICY) is (asked is None):
        yield "required_by"


def _wrong_edges(certificate: CertificateModel, made: ToleranceCurve) -> Iterator[str]:
    """Yield where another largest tolerance follows from the points, or others had to be tried."""
    higher, scores = (
        certificate.metric.higher_is_better,
        {point.tolerance: point.score for point in _all_points(made)},
    )
    asked: set[float] = set()

    def holds(tolerance: float) -> bool:
        known = min(scores, key=lambda one: abs(one - tolerance))
        asked.add(known)
        score = scores[known] if _close(known, tolerance) else math.nan
        return score >= made.required if higher else score <= made.required

    unrefuted, refuted = edges(holds, [point.tolerance for point in made.points])
    if not _close(made.unrefuted, unrefuted):
        yield "unrefuted"
    if (made.refuted is None) is not (refuted is None) or not _close(
        made.refuted or 0.0, refuted or 0.0
    ):
        yield "refuted"
    if asked != scores.keys():
        yield "tried"


def _wrong_proof(
    certificate: CertificateModel, made: ToleranceCurve, tolerance: float
) -> Iterator[str]:
    proven, higher = certificate.certified, certificate.metric.higher_is_better
    met = [
        point.box_size
        for point in proven.curve
        if (point.score >= made.required if higher else point.score <= made.required)
    ]
    largest = max(met) * tolerance if met and proven.score is not None else None
    if (made.certified is None) is not (largest is None) or not _close(
        made.certified or 0.0, largest or 0.0
    ):
        yield "certified"
    if made.certified_samples != proven.curve_samples:
        yield "certified_samples"


def _are(found: Sequence[float], wanted: Sequence[float]) -> bool:
    return len(found) == len(wanted) and all(map(_close, found, wanted))


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RTOL, abs_tol=1e-15)
