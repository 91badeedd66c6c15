"""What a search on one half of the samples says of the other, derived again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_score
from cimrobust.diagnose.transfer_result import CONFIDENCE, MEANINGS, property_of
from cimrobust.montecarlo.sample_uncertainty import accuracy_interval
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.stated_scores import is_worse_than_found

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.diagnose.diagnose_records import Transfer, TransferDirection

_RTOL = 1e-9
# Decisions that may fall otherwise when the samples are run in halves.
_EDGE = 2


def wrong_transfer(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of the transfer between halves does not follow from its scores.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.transfer
    if made is None:
        return
    place = "diagnostics.transfer"
    if len(made.directions) != 2 or made.confidence != CONFIDENCE:
        yield f"{place}.directions"
        return
    if not _are_two_halves(certificate, made):
        yield f"{place}.directions"
    for index, row in enumerate(made.directions):
        # The first half has one sample more of an odd number.
        held_out = (certificate.data.used + index) // 2
        yield from (
            f"{place}.directions.{index}.{name}"
            for name in _wrong_direction(certificate, row, held_out)
        )
    if made.property_of != property_of(made.directions):
        yield f"{place}.property_of"
    if is_of_today(certificate, certificate.tool) and made.statement != MEANINGS[made.property_of]:
        yield f"{place}.statement"


def _are_two_halves(certificate: CertificateModel, made: Transfer) -> bool:
    """Tell whether what one direction searches the other holds out, and both are all samples."""
    first, second = made.directions
    swapped = (second.held_out_samples, second.held_out_clean)
    if (first.searched_samples, first.searched_clean) != swapped:
        return False
    if (second.searched_samples, second.searched_clean) != (
        first.held_out_samples,
        first.held_out_clean,
    ):
        return False
    total = first.searched_samples + first.held_out_samples
    clean = _of_all(first, first.searched_clean, first.held_out_clean)
    return total == certificate.clean.samples and (
        certificate.metric.unit != "fraction"
        or abs(clean - programmed_score(certificate)) * total <= _EDGE + _RTOL
    )


def _of_all(row: TransferDirection, searched: float, held_out: float) -> float:
    total = max(1, row.searched_samples + row.held_out_samples)
    return (searched * row.searched_samples + held_out * row.held_out_samples) / total


def _wrong_direction(
    certificate: CertificateModel, row: TransferDirection, num_inputs: int
) -> Iterator[str]:
    loss, suffered = row.searched_clean - row.searched, row.held_out_clean - row.held_out
    is_visible = loss != 0
    if certificate.metric.unit == "fraction":
        most = certificate.evaluation_set.most_decisions
        again = accuracy_interval(
            row.held_out,
            num_decisions=row.held_out_samples,
            num_inputs=num_inputs,
            most=1 if most is None else most,
            confidence=CONFIDENCE,
        )
        if most is not None and (
            row.method != again.method
            or not (_close(row.low, again.low) and _close(row.high, again.high))
        ):
            yield "low"
        is_visible = loss > (again.high - again.low) / 2
        if is_worse_than_found(certificate, _of_all(row, row.searched, row.held_out), edge=_EDGE):
            yield "searched"
    elif (row.low, row.high, row.method) != (None, None, None):
        yield "low"
    if not _close(row.share, suffered / loss if is_visible else None):
        yield "share"


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_RTOL, abs_tol=_RTOL)
