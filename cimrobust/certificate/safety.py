"""A requirement on the recall of one class: a chip that was found can refute it, and nothing that was found can prove it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cimrobust.certificate.models import RequirementResult, Status
from cimrobust.certificate.policy import SafetyRequirement

_FILE = "witness/safety_class.safetensors"


def judge_safety_class(certificate: Mapping[str, Any], required: SafetyRequirement) -> RequirementResult:
    """Judge the requirement: refuted by the lowest recall known of any chip, else open."""
    known = list(_known(certificate, required.label))
    status: Status = "open"
    if not known:
        sentence = f"No recall of class {required.label} is in the certificate; give --safety-class {required.label}."
    else:
        recall, what = min(known, key=lambda entry: entry[0])
        sentence = f"{what} has a recall of {recall:.4f}."
        if recall < required.recall:
            status = "refuted"
        elif (_block(certificate, "safety_class") or {}).get("label") == required.label:
            sentence += " That refutes nothing, and proves nothing about chips that were not tried."
        else:
            sentence += f" No search of its own was made for this class; give --safety-class {required.label}."
    return RequirementResult(
        id="safety_class",
        text=f"Recall of class {required.label} at least {required.recall:.4f} on every chip",
        status=status,
        sentence=sentence,
    )


def _known(certificate: Mapping[str, Any], label: int) -> Iterator[tuple[float, str]]:
    """Yield recalls of a class, and whose they are; those with the best evidence first."""
    own = _block(certificate, "safety_class")
    if own is not None and own["label"] == label:
        yield own["recall"], f"On the worst chip found for class {label} ({_FILE}) it"
    for row in (_block(certificate, "classes") or {"rows": []})["rows"]:
        if row["label"] == label:
            yield row["recall"], f"On a chip found by a short attack, class {label}"
    for row in certificate["clean"].get("per_class") or []:
        if row["label"] == label and row["samples"]:
            yield row["worst"] / row["samples"], f"On the worst chip for all samples (witness/worst_case.onnx), class {label}"
            yield row["clean"] / row["samples"], f"Without deviation, class {label}"


def _block(certificate: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (certificate.get("diagnostics") or {}).get(name)
    return found
