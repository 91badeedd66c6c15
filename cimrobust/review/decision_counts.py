"""The decisions that scores count: every share has its count, and tables have all classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.models.found import MOST_CONFUSION
from cimrobust.certificate.read_record import Version
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

# Files of older versions of the format did not count all decisions.
_COUNTED = Version(1, 5)


def counts_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that nothing that other checks count by was left out.

    Args:
        certificate: The certificate.
    """
    wrong = list(_wrong_tables(certificate))
    is_share = certificate.metric.unit == "fraction"
    if is_share and Version.of(certificate.stated_version) >= _COUNTED:
        wrong += _uncounted(certificate)
    return ReplayCheck(
        "decision_counts",
        not wrong,
        "every share has its count, every table all classes"
        if not wrong
        else f"without what it is counted by: {named(wrong)}",
    )


def _uncounted(certificate: CertificateModel) -> Iterator[str]:
    """Yield shares without the count that they follow from: nothing would hold them."""
    clean, worst, proven = certificate.clean, certificate.worst_found, certificate.certified
    counts = {
        "clean.correct": clean.correct,
        "clean.quantised_correct": clean.quantised_correct,
        "worst_found.correct": worst.correct,
        "worst_found.replay.correct": worst.replay.correct,
    }
    for index, member in enumerate(worst.members):
        counts[f"worst_found.members.{index}.correct"] = member.correct
    for index, point in enumerate(proven.curve):
        counts[f"certified.curve.{index}.correct"] = point.correct
    if certificate.converters is not None:
        counts["converters.correct"] = certificate.converters.correct
    if proven.score is not None:
        counts["certified.correct"] = proven.correct
    yield from (place for place, count in counts.items() if count is None)
    if (proven.score is None) is (proven.largest_tolerance is not None):
        yield "certified.largest_tolerance"
    if proven.score is None and (proven.correct is not None or proven.curve):
        yield "certified.curve"


def _wrong_tables(certificate: CertificateModel) -> Iterator[str]:
    """Yield tables that lack classes, or that are there without each other."""
    rows, classes = certificate.worst_found.confusion, certificate.clean.per_class
    # One column more: decisions for no class at all.
    if rows is not None and any(len(row) != len(rows) + 1 for row in rows):
        yield "worst_found.confusion"
    if classes is None:
        if rows is not None:
            yield "clean.per_class"
        return
    if [row.label for row in classes] != list(range(len(classes))):
        yield "clean.per_class"
    expected = len(classes) if len(classes) <= MOST_CONFUSION else 0
    if len(rows or ()) != expected:
        yield "worst_found.confusion"
    if sum(row.samples for row in classes) != certificate.worst_found.samples:
        yield "clean.per_class"
