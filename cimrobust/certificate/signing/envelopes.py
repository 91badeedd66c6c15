"""DSSE envelopes, signed and verified by securesystemslib: no cryptography of our own."""

from __future__ import annotations

import json
from pathlib import Path

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from cimrobust.errors import EvidenceRefutedError
from cimrobust.input_file import printable, refusing_what_fails
from cimrobust.json_file import parse_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_MOST_SHOWN = 3


def sign_envelope(payload: bytes, signer: CryptoSigner, *, beside: bytes | None) -> str:
    """Sign a statement.

    Args:
        payload: The statement.
        signer: Private key.
        beside: An envelope that is there; if it has the same statement, its other signatures are
            kept.

    Returns:
        The envelope, as JSON.
    """
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    if beside is not None:
        envelope = _same_statement(beside, envelope) or envelope
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n"


def open_envelope(content: bytes, key: SSlibKey, where: Path) -> bytes:
    """Return the statement of an envelope, if a key has signed it.

    Args:
        content: The envelope, as JSON.
        key: Public key that must have signed.
        where: Its file.

    Raises:
        EvidenceRefutedError: It is no envelope of a statement, or has no valid signature by the
            key.
    """
    with refusing_what_fails(
        "envelope must be one of DSSE", where, hint="do not trust it", refused=EvidenceRefutedError
    ):
        envelope = _read(content)
        try:
            envelope.verify([key], 1)
        except VerificationError as err:
            raise EvidenceRefutedError(
                f"envelope must have a valid signature by key {key.keyid[:16]}..., got"
                f" {_signers(envelope)} ({printable(where)}); do not trust it"
            ) from err
        return envelope.payload


def _read(content: bytes) -> Envelope:
    envelope = Envelope.from_dict(parse_json(content))
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ValueError(
            f"payloadType must be {PAYLOAD_TYPE}, got '{str(envelope.payload_type)[:100]}'"
        )
    return envelope


def _same_statement(content: bytes, new: Envelope) -> Envelope | None:
    """Return an envelope that is there if it has the statement of a new one."""
    try:
        old = _read(content)
    except Exception:  # whatever it is, it is no signature of this statement
        return None
    return old if old.payload == new.payload else None


def _signers(envelope: Envelope) -> str:
    keys = [f"{printable(keyid)[:16]}..." for keyid in envelope.signatures]
    shown = ", ".join(keys[:_MOST_SHOWN]) + (" and more" if len(keys) > _MOST_SHOWN else "")
    return f"{len(keys)} by {shown}" if keys else "no signature"
