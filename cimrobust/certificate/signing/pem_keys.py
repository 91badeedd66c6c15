"""Key files in PEM, as openssl writes them.

One of the two doors of securesystemslib and cryptography.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, printable, read_input, refusing_what_fails

#: Environment variable of the passphrase of a private key; arguments can be read by everybody on
#: the machine.
PASSPHRASE = "CIMROBUST_KEY_PASSPHRASE"

_MAX_BYTES = 2**16
_KINDS = "ed25519, ECDSA (P-256, P-384, P-521) or RSA (2048 bits or more)"
# NIST SP 800-131A Rev. 2 allows no signatures by shorter ones.
_LEAST_RSA_BITS = 2048


def read_signer(path: Path, passphrase: str | None) -> CryptoSigner:
    """Read a private key.

    Args:
        path: PEM file.
        passphrase: Of an encrypted one; not looked at for others.

    Raises:
        UsageError: There is no such file, or the key is encrypted and there is no passphrase.
        InputRefusedError: It is no private key of a kind that signs, or not one of this passphrase.
    """
    content = read_input(path, FileKind("private key", _MAX_BYTES, hint="name a PEM file (--key)"))
    with refusing_what_fails(
        "private key must be one in PEM",
        path,
        hint=f"make one of {_KINDS}, see docs/how-to/signing.md",
    ):
        key = _private_key(content, path, passphrase)
        _check(key.public_key(), path)
        return CryptoSigner(key)


def read_verifier(path: Path) -> SSlibKey:
    """Read a public key.

    Args:
        path: PEM file.

    Raises:
        UsageError: There is no such file.
        InputRefusedError: It is no public key of a kind that signs.
    """
    content = read_input(
        path, FileKind("public key", _MAX_BYTES, hint="name a PEM file, or NAME@https://ISSUER")
    )
    with refusing_what_fails(
        "public key must be one in PEM",
        path,
        hint=f"give one of {_KINDS}, see docs/how-to/signing.md",
    ):
        key = load_pem_public_key(content)
        _check(key, path)
        return SSlibKey.from_crypto(key)


def _private_key(content: bytes, path: Path, passphrase: str | None) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(content, None)
    except TypeError as err:  # it is encrypted
        if passphrase is None:
            raise UsageError(
                f"private key must be readable, got an encrypted one ({printable(path)}); set"
                f" {PASSPHRASE} to its passphrase"
            ) from err
        return load_pem_private_key(content, passphrase.encode())
    except UnsupportedAlgorithm as err:
        raise InputRefusedError(
            f"private key must be {_KINDS}, got another kind ({printable(path)}); make another one"
        ) from err


def _check(key: PublicKeyTypes, path: Path) -> None:
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise InputRefusedError(
            f"key must be {_KINDS}, got RSA of {key.key_size} bits ({printable(path)}); make"
            " another one"
        )
