"""Diagnostics that a certificate must have, by its own settings.

Nothing unpleasant may have been left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.wording import left_out
from cimrobust.diagnose.diagnostic_names import NOT_CHOSEN, OPTIONAL, chosen
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def diagnostics_check(certificate: CertificateModel) -> ReplayCheck:
    """Compare the diagnostics that were chosen with those that are there.

    Each has its result, or the reason why it has none.

    Args:
        certificate: The certificate.
    """
    stated = next(
        (setting.value for setting in certificate.settings if setting.key == "diagnostics"), None
    )
    names = set(
        chosen(None if stated is None else str(stated), effort=certificate.worst_found.effort)
    )
    found, without = certificate.diagnostics, NOT_CHOSEN
    if any(row.key == "skip" and row.value == "diagnostics" for row in certificate.settings):
        names, without = set(), left_out("diagnostics")
    if found is None:
        return ReplayCheck(
            "diagnostics",
            not names,
            "there are none" if not names else f"{len(names)} were chosen, and there are none",
        )
    wrong = [
        f"diagnostics.{name}"
        for name in OPTIONAL
        if (name in names) == (getattr(found, f"{name}_reason") == without)
    ]
    wrong += [
        f"diagnostics.{name}"
        for name in OPTIONAL
        if (getattr(found, name) is None) == (getattr(found, f"{name}_reason") is None)
    ]
    return ReplayCheck(
        "diagnostics",
        not wrong,
        (
            f"{len(names)} chosen, each with its result or a reason"
            if not wrong
            else f"not as chosen: {named(wrong)}"
        ),
    )
