"""Diagnostics of a certificate, against each other and against what they explain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.diagnose.diagnostic_names import NAMES
from cimrobust.review.attacked_numbers import wrong_classes, wrong_layers
from cimrobust.review.curve_numbers import wrong_curve
from cimrobust.review.device_level_numbers import wrong_stuck_devices, wrong_write_verify
from cimrobust.review.differences import named
from cimrobust.review.fragile_numbers import wrong_flipped, wrong_fragile_inputs
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.transfer_numbers import wrong_transfer

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def diagnosed_check(certificate: CertificateModel) -> ReplayCheck:
    """Check every diagnostic as far as its own numbers, and those that it explains, tell.

    Args:
        certificate: The certificate.
    """
    wrong = [
        *wrong_flipped(certificate),
        *_wrong_costs(certificate),
        *wrong_layers(certificate),
        *wrong_classes(certificate),
        *wrong_transfer(certificate),
        *wrong_curve(certificate),
        *wrong_fragile_inputs(certificate),
        *wrong_stuck_devices(certificate),
        *wrong_write_verify(certificate),
    ]
    return ReplayCheck(
        "diagnosed_numbers",
        not wrong,
        "diagnostics go together with each other and with what they explain"
        if not wrong
        else f"contradicted at {named(wrong)}",
    )


def _wrong_costs(certificate: CertificateModel) -> Iterator[str]:
    """Yield diagnostics that ran without a cost, or cost something and did not run."""
    made = certificate.diagnostics
    if made is None:
        return
    ran = [name for name in NAMES if getattr(made, name) is not None]
    if is_of_today(certificate, certificate.tool) and [row.name for row in made.costs] != ran:
        yield "diagnostics.costs"
    counted = (made.layers, made.stuck_devices, made.write_verify)
    samples = {part.crafting_samples for part in counted if part is not None}
    if len(samples) > 1 or any(count > certificate.data.used for count in samples):
        yield "diagnostics.crafting_samples"
