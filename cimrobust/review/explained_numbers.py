"""What explains a certificate's numbers, against the numbers themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.diagnosed import SafetyClass

_RTOL = 1e-9
# Effects that every table begins with, and whose scores stand elsewhere too.
_FIRST = ("float weights", "quantised weights")


def explained_check(certificate: CertificateModel) -> ReplayCheck:
    """Check effects and safety class against scores, classes and settings.

    Args:
        certificate: The certificate.
    """
    wrong = [*_wrong_effects(certificate), *_wrong_safety(certificate)]
    return ReplayCheck(
        "explained_numbers",
        not wrong,
        "effects and safety class are of the scores that are stated"
        if not wrong
        else f"contradicted at {named(wrong)}",
    )


def _wrong_effects(certificate: CertificateModel) -> Iterator[str]:
    effects = () if certificate.diagnostics is None else certificate.diagnostics.effects
    clean, before = certificate.clean, None
    names = [row.effect for row in effects]
    if len(set(names)) < len(names) or (names and names[:2] != list(_FIRST)):
        yield "diagnostics.effects"
    fixed = dict(zip(_FIRST, (clean.score, clean.quantised_score), strict=True))
    for index, row in enumerate(effects):
        place = f"diagnostics.effects.{index}"
        if not row.low * (1 - _RTOL) <= row.mean <= row.high * (1 + _RTOL):
            yield f"{place}.mean"
        if row.chips == 0 and not row.low == row.mean == row.high:
            yield f"{place}.chips"
        expected = fixed.get(row.effect)
        if expected is not None and not math.isclose(row.mean, expected, rel_tol=_RTOL):
            yield f"{place}.mean"
        change = 0.0 if before is None else row.mean - before
        if not math.isclose(row.change, change, rel_tol=_RTOL, abs_tol=_RTOL):
            yield f"{place}.change"
        before = row.mean


def _wrong_safety(certificate: CertificateModel) -> Iterator[str]:
    diagnostics = certificate.diagnostics
    asked = [row.value for row in certificate.settings if row.key == "safety-class"]
    safety = None if diagnostics is None else diagnostics.safety_class
    if safety is None:
        return
    if asked and safety.label != asked[0]:
        yield "diagnostics.safety_class.label"
    recall = safety.correct / safety.samples if safety.samples else 0.0
    if not math.isclose(safety.recall, recall, rel_tol=_RTOL, abs_tol=_RTOL):
        yield "diagnostics.safety_class.recall"
    yield from _wrong_class(certificate, safety)


def _wrong_class(certificate: CertificateModel, safety: SafetyClass) -> Iterator[str]:
    """Yield where a safety class has other samples than its row among the classes."""
    rows = [row for row in certificate.clean.per_class or () if row.label == safety.label]
    for row in rows:
        if row.samples != safety.samples:
            yield "diagnostics.safety_class.samples"
        share = row.clean / row.samples if row.samples else 0.0
        if not math.isclose(safety.clean, share, rel_tol=_RTOL, abs_tol=_RTOL):
            yield "diagnostics.safety_class.clean"
