"""Sigstore: its services are replaced, because tests have no network; what is no bundle is refused
by the library itself.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from sigstore.errors import VerificationError

from cimrobust.certificate.signing import bundles
from cimrobust.certificate.signing.signer_identity import SigstoreIdentity
from cimrobust.errors import EvidenceRefutedError, UsageError

WHO = SigstoreIdentity("ci@example.org", "https://accounts.google.com")
HERE = Path("attestation.sigstore.json")


def verifier_that(answer):
    def verify_dsse(bundle, policy):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(production=lambda: SimpleNamespace(verify_dsse=verify_dsse))


@pytest.fixture
def any_bundle(monkeypatch):
    monkeypatch.setattr(bundles, "Bundle", SimpleNamespace(from_json=lambda content: content))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}', b"[" * 5000],
)
def test_what_is_no_bundle_is_refuted(content):
    with pytest.raises(EvidenceRefutedError, match="bundle must be one of sigstore"):
        bundles.open_bundle(content, WHO, HERE)


def test_the_statement_of_a_bundle_that_verifies(any_bundle, monkeypatch):
    monkeypatch.setattr(bundles, "Verifier", verifier_that(("application/vnd.in-toto+json", b"{}")))
    assert bundles.open_bundle(b"", WHO, HERE) == b"{}"


def test_another_identity_is_refuted(any_bundle, monkeypatch):
    monkeypatch.setattr(
        bundles, "Verifier", verifier_that(VerificationError("certificate's SANs do not match"))
    )
    with pytest.raises(
        EvidenceRefutedError, match=r"must be signed by ci@example.org@https://accounts.google.com"
    ):
        bundles.open_bundle(b"", WHO, HERE)


def test_another_payload_type_is_refuted(any_bundle, monkeypatch):
    monkeypatch.setattr(bundles, "Verifier", verifier_that(("text/plain", b"{}")))
    with pytest.raises(EvidenceRefutedError, match="payloadType must be"):
        bundles.open_bundle(b"", WHO, HERE)


def test_without_a_trusted_root_nothing_is_refuted(any_bundle, monkeypatch):
    def unreachable():
        raise ConnectionError("no route")

    monkeypatch.setattr(bundles, "Verifier", SimpleNamespace(production=unreachable))
    with pytest.raises(
        UsageError, match="trusted root of sigstore must be available, got: no route"
    ):
        bundles.open_bundle(b"", WHO, HERE)


def test_signing_without_the_service_says_so(monkeypatch):
    def unreachable():
        raise ConnectionError("no route")

    monkeypatch.setattr(bundles, "ClientTrustConfig", SimpleNamespace(production=unreachable))
    with pytest.raises(UsageError, match="sigstore must sign, got: no route"):
        bundles.sign_bundles([b"{}"])
