"""The whole analysis, run again with the settings of a certificate.

The one check that leaves nothing but clocks and names unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.models import CertificateModel
from cimrobust.certify.refusal import lacks_memory
from cimrobust.input_file import printable
from cimrobust.review.agreement import NOT_DERIVED, block_check
from cimrobust.review.described_data import data_check, has_other_description
from cimrobust.review.machine_check import is_same_machine
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.second_search import much_worse

if TYPE_CHECKING:
    from cimrobust.review.at_the_reviewer import Given

# Blocks that say something else where memory decides on the certified bound.
_RESTS_ON_BOUND = frozenset(
    {"certified", "evaluation_set", "checks", "diagnostics", "verdict", "warnings"}
)


def rerun_checks(certificate: CertificateModel, made: CertificateModel) -> Iterator[ReplayCheck]:
    """Compare a certificate with that of the run that was made again, block by block.

    On another machine a search may take another course, so that differences refute nothing there,
    unless its worst chip is much worse than the one that is claimed: no machine makes that.

    Args:
        certificate: What is claimed.
        made: What the run gave now.
    """
    is_exact = is_same_machine(certificate)
    for block in CertificateModel.model_fields:
        if block in NOT_DERIVED:
            continue
        if block == "data" and has_other_description(made.data, certificate.data):
            yield data_check("rerun", made, certificate)
            continue
        values = getattr(made, block), getattr(certificate, block)
        check = block_check(
            "rerun", *values, certificate, block, fine="is what the run made again gives"
        )
        may_differ = not is_exact and not (block == "worst_found" and _is_tame(certificate, made))
        may_differ |= block in _RESTS_ON_BOUND and any(
            lacks_memory(record.certified.reason) for record in (made, certificate)
        )
        yield _on_other_machine(check) if check.held is False and may_differ else check


def _on_other_machine(check: ReplayCheck) -> ReplayCheck:
    return ReplayCheck(check.id, None, f"on this other machine: {check.detail}")


def rerun_problem(certificate: CertificateModel, given: Given) -> str:
    """Return why a run cannot be made again from what is at hand; nothing where it can."""
    transfer = next(
        (setting.value for setting in certificate.settings if setting.key == "transfer"), None
    )
    if transfer is not None and given.transfer is None:
        return (
            f"the run used a witness of another network, {printable(transfer)[:100]}: give its"
            " certificate (--transfer)"
        )
    return ""


def _is_tame(certificate: CertificateModel, made: CertificateModel) -> bool:
    found, claimed = made.worst_found.score, certificate.worst_found.score
    nominal = made.clean.quantised_score if made.converters is None else made.converters.score
    worse = much_worse(
        claimed,
        found,
        nominal=nominal,
        metric=certificate.metric,
        samples=certificate.clean.samples,
    )
    return worse is True
