"""Data that the reviewer describes in other words than the certificate.

The same samples, read the same, by another file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.review.agreement import compare
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Data

# What another description says in other words; that samples are read the same, their scores tell.
_WORDS = ("description", "files", "steps", "available")


def has_other_description(derived: Data, claimed: Data) -> bool:
    """Return whether the files that describe the samples differ.

    Whether their arrays do, `data_hash` says.

    Args:
        derived: The data that are at hand.
        claimed: The data of the certificate.
    """
    mine, theirs = (
        {name: digest for name, digest in data.files.items() if name.endswith(".toml")}
        for data in (derived, claimed)
    )
    return mine != theirs


def data_check(name: str, derived: CertificateModel, certificate: CertificateModel) -> ReplayCheck:
    """Compare how samples are read and judged, without the words of their description.

    Args:
        name: How it was derived, in front of the block in the name of the check.
        derived: The certificate that follows from what is at hand.
        certificate: The certificate.
    """
    mine, theirs = (
        record.data.model_copy(update=dict.fromkeys(_WORDS)) for record in (derived, certificate)
    )
    wrong = list(compare(mine, theirs, certificate, place="data"))
    if wrong:
        return ReplayCheck(f"{name} data", False, f"other values follow at {named(wrong)}")
    said = (
        "the data are described by another file here: description, files and steps are not"
        " compared, all else follows"
    )
    return ReplayCheck(f"{name} data", None, said)
