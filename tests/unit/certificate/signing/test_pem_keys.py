"""Keys as openssl writes them: of every kind that signs, encrypted or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cimrobust.certificate.signing.envelopes import open_envelope, sign_envelope
from cimrobust.certificate.signing.pem_keys import read_signer, read_verifier
from cimrobust.errors import CimrobustError, InputRefusedError, UsageError

GOOD = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}
BAD = {
    "dsa": lambda: dsa.generate_private_key(2048),
    "ed448": ed448.Ed448PrivateKey.generate,
    "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "x25519": x25519.X25519PrivateKey.generate,
}


def written(folder: Path, key, passphrase: bytes | None = None) -> tuple[Path, Path]:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    private, public = folder / "key.pem", folder / "key.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.mark.parametrize("kind", GOOD)
def test_what_a_private_key_signs_its_public_key_verifies(kind, tmp_path):
    private, public = written(tmp_path, GOOD[kind]())
    text = sign_envelope(b"{}", read_signer(private, None), beside=None)
    assert open_envelope(text.encode(), read_verifier(public), tmp_path) == b"{}"


@pytest.mark.parametrize("kind", BAD)
def test_other_kinds_are_refused(kind, tmp_path):
    private, public = written(tmp_path, BAD[kind]())
    with pytest.raises(InputRefusedError, match="key must be"):
        read_signer(private, None)
    with pytest.raises(InputRefusedError, match="key must be"):
        read_verifier(public)


def test_an_encrypted_key_needs_its_passphrase(tmp_path):
    private, _ = written(tmp_path, GOOD["ed25519"](), b"open sesame")
    assert read_signer(private, "open sesame").public_key.keytype == "ed25519"
    with pytest.raises(UsageError, match="set CIMROBUST_KEY_PASSPHRASE"):
        read_signer(private, None)
    with pytest.raises(InputRefusedError, match="private key must be one in PEM"):
        read_signer(private, "wrong")


def test_a_passphrase_is_not_looked_at_where_none_is_needed(tmp_path):
    private, _ = written(tmp_path, GOOD["ed25519"]())
    assert read_signer(private, "unused").public_key.keytype == "ed25519"


def test_a_key_of_the_other_half_is_refused(tmp_path):
    private, public = written(tmp_path, GOOD["ed25519"]())
    for read, path in ((lambda path: read_signer(path, None), public), (read_verifier, private)):
        with pytest.raises(InputRefusedError, match="key must be one in PEM"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 10,
        b"-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n",
        b"x" * 2**17,
    ],
)
def test_files_that_are_no_keys(content, tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(CimrobustError, match="key must"):
        read_signer(path, None)
    with pytest.raises(CimrobustError, match="key must"):
        read_verifier(path)
