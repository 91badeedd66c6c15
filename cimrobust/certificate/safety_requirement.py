"""A requirement on the recall of one class.

A chip that was found can refute it, and nothing that was found can prove it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.judging import Case, Judged
from cimrobust.certificate.wording import on_samples

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Status
    from cimrobust.certificate.policy_tables import RequireRow

_FILE = "witness/safety_class.safetensors"


def judge_safety_class(case: Case, row: RequireRow) -> Judged:
    """Judge the requirement: refuted by the lowest recall known of any chip, else open."""
    certificate, required = case.certificate, row.safety_class
    assert required is not None
    known = list(_known(certificate, required.label))
    status: Status = "open"
    lowest = min((recall for recall, _ in known), default=None)
    if not known:
        sentence = (
            f"No recall of class {required.label} is in the certificate; give --safety-class"
            f" {required.label}."
        )
    else:
        recall, what = min(known, key=lambda entry: entry[0])
        sentence = f"{what} has a recall of {100 * recall:.2f} %."
        if recall < required.recall:
            status = "refuted"
        elif _has_search_of_its_own(certificate, required.label):
            sentence += " That refutes nothing, and proves nothing about chips that were not tried."
        else:
            sentence += (
                " No search of its own was made for this class; give --safety-class"
                f" {required.label}."
            )
    beyond = " and beyond these samples" if row.samples == "beyond" else ""
    asked = (
        f"recall of class {required.label} at least {100 * required.recall:.2f} % on every chip"
        f" {on_samples(certificate)}{beyond}"
    )
    return Judged(asked, status, sentence, lowest, None if lowest is None else "searched")


def _known(certificate: CertificateModel, label: int) -> Iterator[tuple[float, str]]:
    """Yield recalls of a class, and whose they are; those with the best evidence first."""
    found = certificate.diagnostics
    own = None if found is None else found.safety_class
    if own is not None and own.label == label:
        yield own.recall, f"On the worst chip found for class {label} ({_FILE}) it"
    attacked = None if found is None else found.classes
    for attack in [] if attacked is None else attacked.rows:
        if attack.label == label:
            yield attack.recall, f"On a chip found by a short attack, class {label}"
    for row in certificate.clean.per_class or []:
        if row.label == label and row.samples:
            yield (
                row.worst / row.samples,
                f"On the worst chip for all samples (witness/worst_case.onnx), class {label}",
            )
            yield row.clean / row.samples, f"Without deviation, class {label}"


def _has_search_of_its_own(certificate: CertificateModel, label: int) -> bool:
    found = certificate.diagnostics
    return (
        found is not None and found.safety_class is not None and found.safety_class.label == label
    )
