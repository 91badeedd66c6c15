"""Samples that are certified, against the chips that are said to break them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certify.per_sample import PerSample

# A share of a deviation is rounded to float32.
_ROUNDING = 1 + 1e-5


def unbroken_check(certificate: CertificateModel, proven: PerSample) -> ReplayCheck:
    """Check that no sample is proven against a chip that is said to break it.

    Args:
        certificate: The certificate.
        proven: What is proven of every sample.
    """
    wrong = list(_broken(certificate, proven))
    return ReplayCheck(
        "certified_against_chips",
        not wrong,
        "no chip shown breaks what is certified"
        if not wrong
        else f"certified, and broken by {named(wrong)}",
    )


def _broken(certificate: CertificateModel, proven: PerSample) -> Iterator[str]:
    # Samples are numbered as decisions are only where each has one.
    if len(proven.certified) != certificate.data.used:
        return
    flipped, made = certificate.worst_found.flipped, certificate.diagnostics
    for index, row in enumerate([] if flipped is None else flipped.rows):
        if row.sample < len(proven.certified) and proven.certified[row.sample]:
            yield f"worst_found.flipped.rows.{index}"
    fragile = None if made is None else made.fragile_inputs
    for index, broken in enumerate([] if fragile is None else fragile.rows):
        if broken.sample >= len(proven.certified):
            continue
        # NaN: it was not asked how far it is certified.
        if proven.certified[broken.sample] or (
            proven.largest[broken.sample] > broken.breaks_at * _ROUNDING
        ):
            yield f"diagnostics.fragile_inputs.rows.{index}"
