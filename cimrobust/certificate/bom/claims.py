"""The declarations of a bill of materials.

Claims about the network, with the certificate as evidence and the witness as counter-evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.policy import Policy

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, RequirementResult

MODEL, CERTIFICATE, WITNESS = "model", "certificate", "witness"

# Kinds of requirements that one bad chip refutes; the others are refuted by numbers of the
# certificate.
_ABOUT_ONE_CHIP = ("worst_found_accuracy", "certified_accuracy", "safety_class", "cost")

Plain = dict[str, Any]


def declarations(
    certificate: CertificateModel,
    *,
    certificate_url: str,
    witness_url: str,
    witness_sha256: str,
    sha256: str,
) -> Plain:
    """Return claims and evidence, as the plain values of CycloneDX 1.6.

    Args:
        certificate: The certificate.
        certificate_url: Where it is, relative to its folder.
        witness_url: Where the witness is.
        witness_sha256: Digest of the witness.
        sha256: Digest of the certificate.
    """
    worst, metric = certificate.worst_found, certificate.metric.name
    written = (
        f"Robustness certificate by {certificate.tool.name} {certificate.tool.version}, SHA-256"
        f" {sha256}."
    )
    found = (
        f"Worst chip found within the tolerance, as a model with its weights inside; {metric}"
        f" {worst.score:.6g} in {worst.replay.engine}; SHA-256 {witness_sha256}."
    )
    return {
        "claims": list(_claims(certificate)),
        "evidence": [
            _evidence(CERTIFICATE, written, certificate_url),
            _evidence(WITNESS, found, witness_url),
        ],
    }


def proves_something(certificate: CertificateModel) -> bool:
    """Return whether the certified bound says more than is known without it.

    No accuracy is below 0.
    """
    score = certificate.certified.score
    return score is not None and not (certificate.metric.name == "accuracy" and score <= 0)


def _evidence(reference: str, description: str, url: str) -> Plain:
    return {
        "bom-ref": reference,
        "description": description,
        "data": [{"name": url, "contents": {"url": url}}],
    }


def _claims(certificate: CertificateModel) -> Iterator[Plain]:
    yield _undisturbed(certificate)
    if proves_something(certificate):
        yield _certified(certificate)
    kinds = (
        {}
        if certificate.policy is None
        else {row.id: row.kind for row in Policy.model_validate(certificate.policy).rows}
    )
    for index, asked in enumerate(certificate.verdict.requirements):
        yield _required(index, asked, kinds.get(asked.id, ""))


def _undisturbed(certificate: CertificateModel) -> Plain:
    """Claim what the witness is there to refute."""
    quantised, worst = certificate.clean.quantised_score, certificate.worst_found.score
    is_worse = worst < quantised if certificate.metric.higher_is_better else worst > quantised
    claim = {
        "bom-ref": "claim-undisturbed",
        "target": MODEL,
        "predicate": (
            "No chip within the tolerance scores worse than the network without deviation,"
            f" {certificate.metric.name} {quantised:.6g}."
        ),
    }
    if is_worse:
        return claim | {
            "reasoning": f"Refuted: a chip was found that scores {worst:.6g}.",
            "counterEvidence": [WITNESS],
        }
    return claim | {
        "reasoning": "The search found none. That proves nothing about chips that were not tried."
    }


def _certified(certificate: CertificateModel) -> Plain:
    words = "at least" if certificate.metric.higher_is_better else "at most"
    return {
        "bom-ref": "claim-certified",
        "target": MODEL,
        "predicate": (
            f"Every chip within the tolerance has {certificate.metric.name} {words}"
            f" {certificate.certified.score:.6g} on the {certificate.certified.samples} decisions"
            " of the evaluation data."
        ),
        "reasoning": f"Proof: {certificate.certified.method}",
        "evidence": [CERTIFICATE],
    }


def _required(index: int, asked: RequirementResult, kind: str) -> Plain:
    claim: Plain = {
        "bom-ref": f"claim-required-{index}",
        "target": MODEL,
        "predicate": asked.text,
        "reasoning": f"{asked.status}: {asked.sentence}",
    }
    if asked.status == "met":
        return claim | {"evidence": [CERTIFICATE]}
    if asked.status == "refuted":
        return claim | {"counterEvidence": [WITNESS if kind in _ABOUT_ONE_CHIP else CERTIFICATE]}
    return claim
