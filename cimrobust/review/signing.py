"""Who vouches for a certificate: signing one, and finding out who signed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.certificate_files import atomic_text, read_certificate
from cimrobust.certificate.extras import needing
from cimrobust.certificate.manifest import (
    ATTESTATION,
    ATTESTATION_BUNDLE,
    MANIFEST,
    TEST_RESULT,
    TEST_RESULT_BUNDLE,
    require_manifest,
)
from cimrobust.certificate.models.attested import PREDICATE_TYPE, Attestation
from cimrobust.certificate.policy import read_policy
from cimrobust.certificate.result_names import REPORT
from cimrobust.certificate.signing.predicates import TEST_RESULT_TYPE
from cimrobust.certificate.signing.signer_identity import (
    Identity,
    KeyIdentity,
    SigstoreIdentity,
    identity_of,
)
from cimrobust.errors import EvidenceRefutedError, UsageError
from cimrobust.files import sha256_of
from cimrobust.input_file import FileKind, printable, read_input, refusing_what_fails
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.in_memory import given_folder, takes_objects
from cimrobust.report.render import render
from cimrobust.review.file_checks import file_checks

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.settings.python_inputs import FolderLike

#: What no signature says; printed wherever one was verified.
NOT_SAID = (
    "A signature says who vouches for these files and that nobody changed them since. It does not"
    " say that they are true: `cimrobust replay` derives the claims again."
)

_ENVELOPES = {PREDICATE_TYPE: ATTESTATION, TEST_RESULT_TYPE: TEST_RESULT}
_BUNDLES = {PREDICATE_TYPE: ATTESTATION_BUNDLE, TEST_RESULT_TYPE: TEST_RESULT_BUNDLE}
_MAX_BYTES = 4 * 2**20
_PURPOSE = "signatures"


@dataclass(frozen=True)
class Signed:
    """A certificate that was signed.

    Attributes:
        files: The signatures' files.
        keyid: Id of the key by the rule of securesystemslib; None: signed by sigstore.
        word: The verdict that was signed.
    """

    files: tuple[Path, ...]
    keyid: str | None
    word: str


@dataclass(frozen=True)
class SignedFolder:
    """What a signature covers, as it was read when the signature was verified.

    Attributes:
        certificate: The certificate.
        manifest_sha256: Digest of the list of all files.
    """

    certificate: CertificateModel
    manifest_sha256: str


@dataclass(frozen=True, repr=False)
class VerifiedSignature:
    """A signature that holds, and what it covers.

    Attributes:
        identity: Who signed, as asked.
        attestation: What is signed about the certificate.
        files: Files with a valid signature.
        model: SHA-256 of the files of the model by name.
        model_compared: Whether they were compared with a model file that was given.
    """

    identity: str
    attestation: Attestation
    files: tuple[str, ...]
    model: Mapping[str, str]
    model_compared: bool

    def __repr__(self) -> str:
        """Say who signed which verdict, in one line."""
        word = self.attestation.word
        return f"<VerifiedSignature of {printable(self.identity)}: {word}>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "identity": self.identity,
            "files": list(self.files),
            "model": dict(self.model),
            "model_compared": self.model_compared,
            "attestation": self.attestation.model_dump(),
            "not_said": NOT_SAID,
        }


@takes_objects
def sign(
    directory: FolderLike,
    *,
    key: str | Path | None = None,
    sigstore: bool = False,
    policy: str | Path | None = None,
) -> Signed:
    """Sign a certificate.

    Model, certificate.json, and by the manifest every other file of the folder.

    What is signed must hold: the folder is as its manifest says, the report is what
    certificate.json renders to, and what follows from the files alone follows.

    Args:
        directory: Folder of the certificate, or a `Certificate`.
        key: Private key in PEM (ed25519, ECDSA or RSA); the passphrase of an encrypted one is read
            from the environment variable CIMROBUST_KEY_PASSPHRASE.
        sigstore: Sign by sigstore, as the identity of the pipeline or of a sign-in, in place of a
            key.
        policy: Policy that the signed verdict is given against, in place of the certificate's own.

    Returns:
        The files that were written.

    Raises:
        EvidenceRefutedError: The folder does not hold what it claims; nothing is signed.
        UsageError: Neither or both of key and sigstore are given, or a library is missing.
        InputRefusedError: The certificate, the manifest or the key cannot be read.
    """
    if (key is None) is not sigstore:
        raise UsageError(
            "a signature must have a key or sigstore, got neither or both (--key, --sigstore); give"
            " one of them"
        )
    folder = given_folder(directory)
    with needing("sign", _PURPOSE):
        from cimrobust.certificate.signing import folder as signed_folder  # noqa: PLC0415
    required = None if policy is None else read_policy(Path(policy)).to_dict()
    require_manifest(folder)
    certificate = read_certificate(folder)
    _check_claims(folder, certificate)
    with refusing_what_fails(
        "certificate must be one that `cimrobust analyze` wrote", folder, hint="make it again"
    ):
        payloads = signed_folder.statements_of(
            folder, certificate, certificate.policy if required is None else required
        )
    _, attestation = signed_folder.check_statements(folder, payloads)
    written, keyid = (
        _by_sigstore(folder, payloads) if key is None else _by_key(folder, payloads, Path(key))
    )
    return Signed(written, keyid, attestation.word)


@takes_objects
def verify_signature(
    directory: FolderLike, *, identity: str | Path, model: str | Path | None = None
) -> VerifiedSignature:
    """Verify who signed a certificate, and that the folder is the one that was signed.

    Args:
        directory: Folder of the certificate, or a `Certificate`.
        identity: Who must have signed: the path of a public key in PEM, or ``NAME@https://ISSUER``
            of sigstore.
        model: The network that is to be shipped, to compare with the signed digests; None: it is
            not compared.

    Returns:
        What was verified.

    Raises:
        EvidenceRefutedError: There is no such signature, or the folder is another one than was
            signed.
        UsageError: The identity is none, or a library is missing.
        InputRefusedError: A file cannot be read.
    """
    folder, asked = given_folder(directory), identity_of(identity)
    certificate, attestation = _verified(folder, asked)
    digests = {file.name: file.sha256 for file in certificate.model.files}
    if model is not None:
        _check_model(Path(model), digests)
    return VerifiedSignature(
        str(asked), attestation, tuple(_names(asked).values()), digests, model is not None
    )


def require_signature(directory: Path, identity: str | Path) -> SignedFolder:
    """Return what an identity has signed; raises as `verify_signature`."""
    manifest = sha256_of(directory / MANIFEST)
    certificate, _ = _verified(directory, identity_of(identity))
    return SignedFolder(certificate, manifest)


def _names(identity: Identity) -> Mapping[str, str]:
    """Return the files that hold an identity's signatures, by the type of what they say."""
    return _ENVELOPES if isinstance(identity, KeyIdentity) else _BUNDLES


def _verified(folder: Path, identity: Identity) -> tuple[CertificateModel, Attestation]:
    """Return the certificate that an identity has signed, and what it says of it."""
    with needing("sign", _PURPOSE):
        from cimrobust.certificate.signing import folder as signed_folder  # noqa: PLC0415
    names = _names(identity)
    payloads = {kind: _payload(folder / name, identity) for kind, name in names.items()}
    return signed_folder.check_statements(folder, payloads)


def _check_claims(folder: Path, certificate: CertificateModel) -> None:
    """Refuse to vouch for what can be seen to be wrong without data."""
    broken = [
        f"{check.id} ({check.detail})"
        for check in file_checks(folder, certificate)
        if check.held is False
    ]
    # Of every version: whoever signs vouches for the page too.
    if not _is_rendered(folder, certificate):
        broken.append(
            f"report ({REPORT} is not what certificate.json renders to; `cimrobust report` makes it"
            " again)"
        )
    if broken:
        shown = printable("; ".join(broken))[:500]
        raise EvidenceRefutedError(
            f"certificate must hold before it is signed, got broken: {shown} ({printable(folder)});"
            " see `cimrobust replay`"
        )


def _is_rendered(folder: Path, certificate: CertificateModel) -> bool:
    with refusing_what_fails(
        "certificate must be one that `cimrobust analyze` wrote", folder, hint="make it again"
    ):
        expected = render(certificate).encode()
    return read_input(folder / REPORT, FileKind("report", 2**30)) == expected


def _by_key(folder: Path, payloads: Mapping[str, bytes], key: Path) -> tuple[tuple[Path, ...], str]:
    with needing("sign", _PURPOSE):
        from cimrobust.certificate.signing import envelopes, pem_keys  # noqa: PLC0415  # an extra
    signer = pem_keys.read_signer(key, os.environ.get(pem_keys.PASSPHRASE))
    texts = {}
    for kind, payload in payloads.items():
        path = folder / _ENVELOPES[kind]
        beside = read_input(path, _signature_kind()) if path.is_file() else None
        texts[path] = envelopes.sign_envelope(payload, signer, beside=beside)
    return _write(texts), signer.public_key.keyid


def _by_sigstore(folder: Path, payloads: Mapping[str, bytes]) -> tuple[tuple[Path, ...], None]:
    with needing("sign-sigstore", "signing by sigstore"):
        from cimrobust.certificate.signing import bundles  # noqa: PLC0415  # an extra
    texts = bundles.sign_bundles(list(payloads.values()))
    return (
        _write({folder / _BUNDLES[kind]: text for kind, text in zip(payloads, texts, strict=True)}),
        None,
    )


def _write(texts: Mapping[Path, str]) -> tuple[Path, ...]:
    for path, text in texts.items():
        atomic_text(path, text)
    return tuple(texts)


def _payload(path: Path, identity: Identity) -> bytes:
    """Return the statement of a signature's file, if the identity has signed it."""
    content = read_input(path, _signature_kind(identity))
    if isinstance(identity, SigstoreIdentity):
        with needing("sign-sigstore", "verifying by sigstore"):
            from cimrobust.certificate.signing import bundles  # noqa: PLC0415  # an extra
        return bundles.open_bundle(content, identity, path)
    with needing("sign", _PURPOSE):
        from cimrobust.certificate.signing import envelopes, pem_keys  # noqa: PLC0415  # an extra
    return envelopes.open_envelope(content, pem_keys.read_verifier(identity.path), path)


def _signature_kind(identity: Identity | None = None) -> FileKind:
    # Whoever asks for a signature is not given one by its removal.
    hint = (
        "do not trust it"
        if identity is None
        else f"it must be signed by {printable(identity)}; do not trust it"
    )
    return FileKind(
        "signature",
        _MAX_BYTES,
        hint=hint,
        missing=EvidenceRefutedError,
        refused=EvidenceRefutedError,
    )


def _check_model(model: Path, digests: Mapping[str, str]) -> None:
    found = {file.sha256 for file in load_network(model).files}
    if found != set(digests.values()):
        raise EvidenceRefutedError(
            "model must be the one that was signed,"
            f" {', '.join(printable(name)[:80] for name in digests)}, got another one"
            f" ({printable(model)}); do not ship it by this certificate"
        )
