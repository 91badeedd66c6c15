"""What explains a certificate's numbers, against the numbers themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.load_profile import profile_of
from cimrobust.input_file import printable
from cimrobust.montecarlo.montecarlo_records import device_effects
from cimrobust.records import finite
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.diagnosed import SafetyClass
    from cimrobust.montecarlo.montecarlo_records import Effect
    from cimrobust.montecarlo.trial_table import TrialTable

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


def effects_check(certificate: CertificateModel, table: TrialTable) -> ReplayCheck:
    """Check the row that has all effects against the trials, since it scores the first of them.

    So trials and effects are of one run and one seed.

    Args:
        certificate: The certificate.
        table: Its trials.
    """
    if not _effects(certificate):
        return ReplayCheck("drawn_effects", True, "no effects are stated")
    rows = [row for row in _effects(certificate) if row.chips]
    settings = {row.key: row.value for row in certificate.settings}
    if not is_of_today(certificate, certificate.tool) or settings.get("trials-on") == "device":
        return ReplayCheck(
            "drawn_effects", None, "other chips, or scores, than those of the trials"
        )
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    found, wanted = tuple(row.effect for row in rows), device_effects(profile)
    if found != wanted:
        said = (
            f"effects of drawn chips must be {', '.join(wanted)}, got {', '.join(found) or 'none'}"
        )
        return ReplayCheck("drawn_effects", False, printable(said)[:300])
    if rows[-1].chips > table.num_trials:
        return ReplayCheck("drawn_effects", None, "of more chips than there are trials")
    row, scores = rows[-1], table.value[: rows[-1].chips]
    with np.errstate(over="ignore", invalid="ignore"):  # errors may be infinite
        pairs = {
            "mean": (row.mean, scores.mean()),
            "low": (row.low, scores.min()),
            "high": (row.high, scores.max()),
        }
    wrong = [
        f"diagnostics.effects.{name}"
        for name, (stated, found) in pairs.items()
        if not math.isclose(stated, finite(float(found)), rel_tol=_RTOL, abs_tol=_RTOL)
    ]
    return ReplayCheck(
        "drawn_effects",
        not wrong,
        f"the effects of all are those of the first {row.chips} trials"
        if not wrong
        else f"of other chips than the first {row.chips} trials: {named(wrong)}",
    )


def _effects(certificate: CertificateModel) -> Sequence[Effect]:
    return () if certificate.diagnostics is None else certificate.diagnostics.effects


def _wrong_effects(certificate: CertificateModel) -> Iterator[str]:
    effects = _effects(certificate)
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
