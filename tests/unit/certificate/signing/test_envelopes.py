"""Envelopes: signatures of others are kept with the same statement, and never with another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from cimrobust.certificate.signing.envelopes import open_envelope, sign_envelope
from cimrobust.errors import EvidenceRefutedError

HERE = Path("attestation.dsse.json")


def test_a_second_signature_stands_beside_the_first():
    one, two = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ecdsa()
    first = sign_envelope(b"{}", one, beside=None)
    both = sign_envelope(b"{}", two, beside=first.encode()).encode()
    assert (
        open_envelope(both, one.public_key, HERE)
        == open_envelope(both, two.public_key, HERE)
        == b"{}"
    )


def test_signing_twice_leaves_one_signature():
    signer = CryptoSigner.generate_ed25519()
    first = sign_envelope(b"{}", signer, beside=None)
    assert sign_envelope(b"{}", signer, beside=first.encode()) == first


@pytest.mark.parametrize(
    "beside", [b"", b"{}", b'{"payload": "", "payloadType": 3, "signatures": []}']
)
def test_what_is_no_envelope_is_replaced(beside):
    signer = CryptoSigner.generate_ed25519()
    assert sign_envelope(b"{}", signer, beside=beside) == sign_envelope(b"{}", signer, beside=None)


def test_signatures_of_another_statement_are_dropped():
    one, two = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    old = sign_envelope(b"[]", one, beside=None)
    made = json.loads(sign_envelope(b"{}", two, beside=old.encode()))
    assert [entry["keyid"] for entry in made["signatures"]] == [two.public_key.keyid]


@pytest.mark.parametrize("keyid", [3, None, [], {}])
def test_key_ids_that_are_none(keyid):
    signer = CryptoSigner.generate_ed25519()
    plain = json.loads(sign_envelope(b"{}", signer, beside=None))
    plain["signatures"][0]["keyid"] = keyid
    with pytest.raises(EvidenceRefutedError, match="envelope must"):
        open_envelope(json.dumps(plain).encode(), signer.public_key, HERE)
