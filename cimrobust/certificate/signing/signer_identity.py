"""Who must have signed: a public key, or an identity that an issuer vouches for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cimrobust.errors import UsageError

# Issuers of sigstore identities are https addresses, so this cannot stand in the middle of another
# part: "a@b.org@https://c" has it once.
_ISSUER = "@https://"


@dataclass(frozen=True)
class KeyIdentity:
    """Whoever has the private key of a public one.

    Attributes:
        path: PEM file of the public key.
    """

    path: Path

    def __str__(self) -> str:
        """Return it in words."""
        return f"the key of {self.path}"


@dataclass(frozen=True)
class SigstoreIdentity:
    """Whoever an OpenID Connect issuer says it is.

    Attributes:
        name: E-mail address, or URI of a workflow.
        issuer: Address of the issuer.
    """

    name: str
    issuer: str

    def __str__(self) -> str:
        """Return it as it is given."""
        return f"{self.name}@{self.issuer}"


Identity = KeyIdentity | SigstoreIdentity


def identity_of(text: str | Path) -> Identity:
    """Read an identity: the path of a public key in PEM, or ``NAME@https://ISSUER`` of sigstore.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(text, Path) or _ISSUER not in text:
        if not str(text):
            raise UsageError(
                "identity must be a public key file or NAME@https://ISSUER, got nothing; name who"
                " must have signed"
            )
        return KeyIdentity(Path(text))
    name, _, host = text.rpartition(_ISSUER)
    if not name or not host:
        raise UsageError(
            f"identity must be NAME@https://ISSUER, got '{text}'; e.g."
            " ci@example.org@https://accounts.google.com"
        )
    return SigstoreIdentity(name, f"https://{host}")
