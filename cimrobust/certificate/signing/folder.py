"""Statements about a folder: made for signing, compared with it once a signature holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.manifest import MANIFEST, require_manifest
from cimrobust.certificate.models.attested import PREDICATE_TYPE, Attestation
from cimrobust.certificate.result_names import CERTIFICATE
from cimrobust.certificate.signing.predicates import (
    TEST_RESULT_TYPE,
    as_test_result,
    attestation_of,
)
from cimrobust.certificate.signing.statements import About, Subject, read_statement, write_statement
from cimrobust.errors import EvidenceRefutedError
from cimrobust.files import sha256_of
from cimrobust.input_file import printable, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

_FILES = (CERTIFICATE, MANIFEST)
_MOST_SHOWN = 5


def statements_of(
    directory: Path, certificate: CertificateModel, policy: dict[str, Any] | None
) -> dict[str, bytes]:
    """Return the statements that are signed, by the type of their predicate.

    Args:
        directory: Folder of a certificate.
        certificate: The certificate.
        policy: What the verdict is given against.
    """
    subjects = _subjects(directory, certificate)
    attestation = attestation_of(directory, certificate, policy)
    return {
        PREDICATE_TYPE: write_statement(subjects, PREDICATE_TYPE, attestation.model_dump()),
        TEST_RESULT_TYPE: write_statement(subjects, TEST_RESULT_TYPE, as_test_result(attestation)),
    }


def check_statements(
    directory: Path, payloads: Mapping[str, bytes]
) -> tuple[CertificateModel, Attestation]:
    """Compare signed statements with the folder that they stand in.

    Args:
        directory: The folder.
        payloads: Statements with a valid signature, by the type of predicate that each must have.

    Returns:
        The certificate, and what is signed about it.

    Raises:
        EvidenceRefutedError: They are of other files, or say something else than the certificate.
    """
    with refusing_what_fails(
        "statement must be one of in-toto",
        directory,
        hint="do not trust it",
        refused=EvidenceRefutedError,
    ):
        read = {kind: read_statement(payload) for kind, payload in payloads.items()}
    for kind, about in read.items():
        _require(
            about.predicate_type == kind,
            f"predicateType must be {kind}, got '{printable(about.predicate_type)[:100]}'",
            directory,
        )
        _check_files(directory, about)
    require_manifest(directory)
    certificate = read_certificate(directory)
    for about in read.values():
        _check_subjects(directory, certificate, about.subjects)
    attestation = _check_predicate(directory, certificate, read[PREDICATE_TYPE].predicate)
    stated = read[TEST_RESULT_TYPE].predicate
    _require(
        stated == as_test_result(attestation),
        "test result must be that of the attestation beside it, got another one",
        directory,
    )
    return certificate, attestation


def _subjects(directory: Path, certificate: CertificateModel) -> list[Subject]:
    """Return what is signed.

    The network as it is shipped, the certificate, and the manifest, which has all other files.
    """
    model = [Subject(file.name, file.sha256) for file in certificate.model.files]
    # Of the bytes that were read: another file may have taken the name since.
    read = certificate.file_sha256 or sha256_of(directory / CERTIFICATE)
    files = [Subject(CERTIFICATE, read), Subject(MANIFEST, sha256_of(directory / MANIFEST))]
    return [*model, *files]


def _check_files(directory: Path, about: About) -> None:
    """Compare the digests of certificate and manifest before either is read."""
    for name in _FILES:
        signed = [subject.sha256 for subject in about.subjects if subject.name == name]
        found = sha256_of(directory / name)
        _require(
            signed == [found],
            f"signed {name} must be the one in the folder, got another one (sha256"
            f" {found[:16]}...)",
            directory,
        )


def _check_subjects(
    directory: Path, certificate: CertificateModel, subjects: Iterable[Subject]
) -> None:
    expected = sorted(_subjects(directory, certificate))
    wrong = sorted({*subjects} ^ {*expected})
    shown = ", ".join(printable(subject.name)[:80] for subject in wrong[:_MOST_SHOWN])
    _require(
        list(subjects) == expected,
        f"subjects must be the files of the model, {CERTIFICATE} and {MANIFEST}, got others: "
        f"{shown or 'one of them twice'}",
        directory,
    )


def _check_predicate(
    directory: Path, certificate: CertificateModel, plain: Mapping[str, Any]
) -> Attestation:
    """Derive the predicate again.

    A signer may be careless, and a statement must not say more than the certificate.
    """
    with refusing_what_fails(
        "attestation must follow its schema",
        directory,
        hint="do not trust it",
        refused=EvidenceRefutedError,
    ):
        stated = Attestation.model_validate(plain, strict=True)
        policy = None if stated.policy is None else stated.policy.content
        derived = attestation_of(directory, certificate, policy)
    if stated != derived:
        differs = [
            name
            for name in Attestation.model_fields
            if getattr(stated, name) != getattr(derived, name)
        ]
        _require(
            False,
            f"attestation must say what {CERTIFICATE} says, got another {', '.join(differs)}",
            directory,
        )
    return stated


def _require(held: bool, text: str, directory: Path) -> None:
    if not held:
        raise EvidenceRefutedError(f"{text} ({printable(directory)}); do not trust it")
