"""Attacks by layer and by class, against the layers, the classes and the worst chip."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.review.stated_scores import is_share, is_worse_than_found

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.diagnose.diagnose_records import ClassAttack


def wrong_layers(certificate: CertificateModel) -> Iterator[str]:
    """Yield what the attacks by layer contradict.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.layers
    if made is None:
        return
    place, stored = "diagnostics.layers", [one.initializer for one in certificate.mapping.layers]
    if sorted(row.initializer for row in made.rows) != sorted(stored):
        yield f"{place}.rows"
    sign = 1 if certificate.metric.higher_is_better else -1
    if any(sign * later.alone.score < sign * one.alone.score for one, later in pairwise(made.rows)):
        yield f"{place}.rows"
    samples, is_counted = certificate.clean.samples, certificate.metric.unit == "fraction"
    for index, row in enumerate(made.rows):
        if (row.others is None) is (len(stored) > 1):
            yield f"{place}.rows.{index}.others"
        for name, found in (("alone", row.alone), ("others", row.others)):
            if found is None:
                continue
            counted = (found.correct is not None) is is_counted
            if (
                not counted
                or (is_counted and not is_share(found.score, found.correct, samples))
                or is_worse_than_found(certificate, found.score)
            ):
                yield f"{place}.rows.{index}.{name}.score"


def wrong_classes(certificate: CertificateModel) -> Iterator[str]:
    """Yield what the attacks by class contradict.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.classes
    if made is None:
        return
    place, labels = "diagnostics.classes", [row.label for row in made.rows]
    known = {row.label: row.samples for row in certificate.clean.per_class or () if row.samples}
    present = {*labels, *made.left_out}
    if (
        len(present) != len(labels) + len(made.left_out)
        or len(present) != made.classes
        or (known and present != known.keys())
        or any(later.recall < one.recall for one, later in pairwise(made.rows))
    ):
        yield f"{place}.rows"
    for index, row in enumerate(made.rows):
        if known and row.samples != known.get(row.label):
            yield f"{place}.rows.{index}.samples"
        yield from (f"{place}.rows.{index}.{name}" for name in _wrong_class(certificate, row))


def _wrong_class(certificate: CertificateModel, row: ClassAttack) -> Iterator[str]:
    total = certificate.clean.samples
    if not is_share(row.recall, row.correct, row.samples):
        yield "recall"
    if not is_share(row.clean, row.clean_correct, row.samples):
        yield "clean"
    if row.becomes == row.label or (row.becomes is not None and row.correct == row.samples):
        yield "becomes"
    # Decisions of this class are among all of the same chip.
    correct = round(row.overall * total)
    if (
        not is_share(row.overall, correct, total)
        or not row.correct <= correct <= total - (row.samples - row.correct)
        or is_worse_than_found(certificate, row.overall)
    ):
        yield "overall"
