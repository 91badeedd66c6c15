"""What may differ where a certificate is replayed on another machine than it was made on."""

from __future__ import annotations

from typing import Any

from cimrobust.certificate.blocks.item import machine
from cimrobust.certificate.models import CertificateModel
from cimrobust.review.check import ReplayCheck

_MAY = (
    "the last bits of float32 sums, so a decision on the edge and the scores by it; seconds. What may not: digests, the box, devices and weights of the witness, drawn "
    "chips, statistics of the stored trials, intervals, and the sums of integer products"
)


def machine_check(certificate: CertificateModel) -> ReplayCheck:
    """Compare the machine that made a certificate with this one; a difference breaks no claim."""
    made = certificate.machine
    if made is None:
        return ReplayCheck("machine", None, f"{certificate.machine_reason}. What may differ on another machine: {_MAY}")
    was, here = made.model_dump(), machine().model_dump()
    other = {key: (was[key], here[key]) for key in here if was[key] != here[key]}
    if not other:
        return ReplayCheck("machine", True, f"made on the same kind of machine: {_shown(here['processor'])}")
    listed = "; ".join(f"{key.replace('_', ' ')} {_shown(then)}, here {_shown(now)}" for key, (then, now) in other.items())
    return ReplayCheck("machine", None, f"made with {listed}. What may differ: {_MAY}")


def is_same_machine(certificate: CertificateModel) -> bool:
    """Return whether a certificate was made on a machine like this one, by the same libraries: then every number must be the same."""
    return certificate.machine is not None and certificate.machine == machine()


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value or "unknown")
