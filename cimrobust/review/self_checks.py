"""The self-checks that a certificate lists: those of every run, and none that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

_ALWAYS = (
    "deployed_equals_file",
    "exact_arithmetic",
    "zero_deviation",
    "corner_equals_saved",
    "liveness",
    "witness_in_box",
    "witness_devices",
    "witness_replay",
)
_CONVERTERS = ("ideal_converters", "converters_reference")
_BOUND = "certified_unbroken"
# What onnxruntime computes cannot be compared where no reference has the operators.
_MAY_BE_OPEN = "exact_arithmetic"


def self_checks_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that a certificate lists the self-checks of every run, each held.

    Where one fails, a run ends without a certificate.

    Args:
        certificate: The certificate.
    """
    found = [check.id for check in certificate.checks]
    wrong = [
        f"checks.{check.id}"
        for check in certificate.checks
        if check.held is False or (check.held is None and check.id != _MAY_BE_OPEN)
    ]
    if is_of_today(certificate, certificate.tool):
        wanted = [*_ALWAYS, *(_CONVERTERS if certificate.converters is not None else ())]
        if certificate.certified.correct is not None:
            wanted.append(_BOUND)
        if found != wanted:
            wrong.append("checks")
    return ReplayCheck(
        "self_checks",
        not wrong,
        f"all {len(found)} self-checks of a run, and they held"
        if not wrong
        else f"missing, failed or not those of a run: {named(wrong)}",
    )
