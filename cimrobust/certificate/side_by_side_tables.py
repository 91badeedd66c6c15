"""Diagnostics of the certificates of a re-training side by side.

Scores over the tolerance, and layer by layer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping

from cimrobust.certificate.models import CertificateModel, LayerAttack, LayerAttacks, ToleranceCurve
from cimrobust.certificate.models import compared as blocks

Certificates = Mapping[str, CertificateModel]
_NO_CURVE = "no bound was computed"
_OTHER_BOX = (
    "the certified boxes shrink drift and relaxation together with the write-verify tolerance, so"
    " their scores are not over that tolerance"
)


def compare_tolerances(
    certificates: Certificates, *, stated: float
) -> tuple[blocks.ToleranceComparison | None, str | None]:
    """Return the scores of all networks over the tolerance.

    None and why where no certificate has them.

    Args:
        certificates: Certificates by folder: ``before``, ``after`` and, if there is one,
            ``control``.
        stated: Write-verify tolerance of the profile that all of them were made for, fraction of
            the full conductance range.
    """
    if not any(_curve(certificate) for certificate in certificates.values()):
        return None, _why(
            {role: _no_curve(certificate) for role, certificate in certificates.items()}
        )
    worst = {role: _worst(certificate, stated) for role, certificate in certificates.items()}
    proven = {role: _proven(certificate, stated) for role, certificate in certificates.items()}
    # Grids are the same for all networks; what their bisections try in between is not.
    shared = {tolerance for scores in proven.values() for tolerance in scores} | {
        point.tolerance
        for certificate in certificates.values()
        if (curve := _curve(certificate)) is not None
        for point in curve.points
    }
    known = sorted(
        {stated, *shared, *(tolerance for scores in worst.values() for tolerance in scores)}
    )

    def scores(role: str, tolerance: float) -> blocks.ToleranceScores | None:
        if role not in certificates:
            return None
        return blocks.ToleranceScores(
            worst_found=worst[role].get(tolerance), certified=proven[role].get(tolerance)
        )

    rows = [
        blocks.ToleranceRow.model_validate(
            {
                "tolerance": tolerance,
                "is_stated": tolerance == stated,
                "is_bisection": tolerance not in {stated, *shared},
            }
            | {role: scores(role, tolerance) for role in ("before", "control", "after")}
        )
        for tolerance in known
    ]
    summaries = {role: _summary(certificate, stated) for role, certificate in certificates.items()}
    return (
        blocks.ToleranceComparison.model_validate(
            {"stated": stated, "rows": rows, "control": None} | summaries
        ),
        None,
    )


def compare_layers(
    certificates: Certificates, *, trained: Collection[str]
) -> tuple[blocks.LayerComparison | None, str | None]:
    """Return the attacks on every layer of all networks.

    None and why where no certificate has them.

    Args:
        certificates: As for `compare_tolerances`.
        trained: Initializers that were trained.
    """
    found = {role: _layers(certificate) for role, certificate in certificates.items()}
    attacked = {
        role: {row.initializer: row for row in part.rows} for role, part in found.items() if part
    }
    if not attacked:
        return None, _why(
            {role: _no_layers(certificate) for role, certificate in certificates.items()}
        )
    # The first certificate that has a layer says where it stands: that of before, if it has any.
    names = list(dict.fromkeys(name for role in certificates for name in attacked.get(role, {})))
    rows = [
        blocks.LayerRow.model_validate(
            {"initializer": name, "trained": name in trained}
            | {
                role: _layer(attacked.get(role, {}).get(name))
                for role in ("before", "control", "after")
            }
        )
        for name in names
    ]
    reasons = {
        role: _no_layers(certificates[role]) for role in certificates if role not in attacked
    }
    return blocks.LayerComparison(rows=rows, reasons=reasons), None


def _curve(certificate: CertificateModel) -> ToleranceCurve | None:
    return None if certificate.diagnostics is None else certificate.diagnostics.tolerance_curve


def _no_curve(certificate: CertificateModel) -> str:
    """Return why there is no curve over the tolerance."""
    found = certificate.diagnostics
    return str(certificate.diagnostics_reason if found is None else found.tolerance_curve_reason)


def _layers(certificate: CertificateModel) -> LayerAttacks | None:
    return None if certificate.diagnostics is None else certificate.diagnostics.layers


def _no_layers(certificate: CertificateModel) -> str:
    """Return why there are no attacks on single layers."""
    found = certificate.diagnostics
    return str(certificate.diagnostics_reason if found is None else found.layers_reason)


def _why(reasons: Mapping[str, str]) -> str:
    """Return why a diagnostic ran for no network, said once where it is the same for all."""
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{role}: {reason}" for role, reason in reasons.items())


def _worst(certificate: CertificateModel, stated: float) -> dict[float, float]:
    """Return the worst scores found by tolerance.

    At the stated one, what diagnostics after the curve found counts too.
    """
    curve = _curve(certificate)
    points = [] if curve is None else [*curve.points, *curve.tried]
    scores = {point.tolerance: point.score for point in points}
    return {**scores, stated: certificate.worst_found.score}


def _over_write_verify(certificate: CertificateModel, stated: float) -> bool:
    """Return whether the certified box is as wide as the write-verify tolerance.

    Both then shrink alike.
    """
    return math.isclose(certificate.device.tolerance_fraction, stated, rel_tol=1e-9)


def _proven(certificate: CertificateModel, stated: float) -> dict[float, float]:
    """Return the certified scores by tolerance.

    An infinite error, which certificates hold as the largest float64, is no bound.
    """
    if not _over_write_verify(certificate, stated):
        return {}
    return {
        point.box_size * stated: point.score
        for point in certificate.certified.curve
        if point.score < sys.float_info.max
    }


def _summary(certificate: CertificateModel, stated: float) -> blocks.ToleranceSummary:
    curve, certified = _curve(certificate), certificate.certified
    unproven = certified.reason or (None if certified.curve else _NO_CURVE)
    if unproven is None and not _over_write_verify(certificate, stated):
        unproven = _OTHER_BOX
    return blocks.ToleranceSummary(
        reason=None if curve is not None else _no_curve(certificate),
        required=None if curve is None else curve.required,
        required_by=None if curve is None else curve.required_by,
        unrefuted=None if curve is None else curve.unrefuted,
        refuted=None if curve is None else curve.refuted,
        certified_samples=certified.curve_samples,
        certified_reason=unproven,
    )


def _layer(row: LayerAttack | None) -> blocks.LayerScores | None:
    if row is None:
        return None
    return blocks.LayerScores(
        alone=row.alone.score, others=None if row.others is None else row.others.score
    )
