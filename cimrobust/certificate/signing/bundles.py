"""The one door of sigstore.

Statements signed by an identity in place of a key, with an entry in the public log.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sigstore.dsse import Statement
from sigstore.errors import VerificationError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken, Issuer, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from cimrobust.certificate.signing.envelopes import PAYLOAD_TYPE
from cimrobust.errors import EvidenceRefutedError, UsageError
from cimrobust.input_file import printable, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.certificate.signing.signer_identity import SigstoreIdentity

_NETWORK = "check the network and the identity that you signed in with"


def sign_bundles(payloads: Sequence[bytes]) -> list[str]:
    """Sign statements as whoever this is.

    The identity of a pipeline where there is one, else that of a sign-in in the browser.

    Args:
        payloads: The statements.

    Returns:
        A bundle for each, as JSON. Identity, digests and signatures are in sigstore's public log
        from then on.

    Raises:
        UsageError: The service or the identity is not available.
    """
    with refusing_what_fails("sigstore must sign", "--sigstore", hint=_NETWORK, refused=UsageError):
        trust = ClientTrustConfig.production()
        ambient = detect_credential()
        token = (
            Issuer(trust.signing_config.get_oidc_url()).identity_token()
            if ambient is None
            else IdentityToken(ambient)
        )
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            return [signer.sign_dsse(Statement(payload)).to_json() + "\n" for payload in payloads]


def open_bundle(content: bytes, identity: SigstoreIdentity, where: Path) -> bytes:
    """Return the statement of a bundle, if an identity has signed it.

    Args:
        content: The bundle, as JSON.
        identity: Who must have signed.
        where: Its file.

    Raises:
        EvidenceRefutedError: It is no bundle of a statement, or not signed by the identity.
        UsageError: The trusted root of sigstore is not available.
    """
    with refusing_what_fails(
        "bundle must be one of sigstore",
        where,
        hint="do not trust it",
        refused=EvidenceRefutedError,
    ):
        bundle = Bundle.from_json(content)
    with refusing_what_fails(
        "trusted root of sigstore must be available",
        "--identity",
        hint=_NETWORK,
        refused=UsageError,
    ):
        verifier = Verifier.production()
    with refusing_what_fails(
        "bundle must be one of sigstore",
        where,
        hint="do not trust it",
        refused=EvidenceRefutedError,
    ):
        try:
            kind, payload = verifier.verify_dsse(
                bundle, Identity(identity=identity.name, issuer=identity.issuer)
            )
        except VerificationError as err:
            raise EvidenceRefutedError(
                f"bundle must be signed by {printable(identity)}, got: {printable(err)[:200]}"
                f" ({printable(where)}); do not trust it"
            ) from err
    if kind != PAYLOAD_TYPE:
        raise EvidenceRefutedError(
            f"payloadType must be {PAYLOAD_TYPE}, got '{printable(kind)[:100]}'"
            f" ({printable(where)}); do not trust it"
        )
    return payload
