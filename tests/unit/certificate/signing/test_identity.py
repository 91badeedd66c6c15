"""An identity is a key file, or a name that an issuer vouches for; no text is both."""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.certificate.signing.signer_identity import KeyIdentity, SigstoreIdentity, identity_of
from cimrobust.errors import UsageError

_WORKFLOW = "https://github.com/o/r/.github/workflows/certify.yml@refs/heads/main"


@pytest.mark.parametrize("text", ["signer.pem", "keys/me@home.pem", Path("a@https:") / "b.pem"])
def test_key_files(text):
    assert identity_of(text) == KeyIdentity(Path(text))


@pytest.mark.parametrize(
    ("text", "name", "issuer"),
    [
        (
            "ci@example.org@https://accounts.google.com",
            "ci@example.org",
            "https://accounts.google.com",
        ),
        (
            f"{_WORKFLOW}@https://token.actions.githubusercontent.com",
            _WORKFLOW,
            "https://token.actions.githubusercontent.com",
        ),
        ("a@https://b@https://c", "a@https://b", "https://c"),
    ],
)
def test_sigstore_identities(text, name, issuer):
    assert identity_of(text) == SigstoreIdentity(name, issuer)
    assert str(identity_of(text)) == text


def test_nothing_names_nobody():
    message = "identity must be a public key file or NAME@https://ISSUER, got nothing"
    with pytest.raises(UsageError, match=message):
        identity_of("")


@pytest.mark.parametrize("text", ["@https://accounts.google.com", "ci@example.org@https://"])
def test_texts_that_are_no_identity(text):
    with pytest.raises(UsageError, match="identity must be"):
        identity_of(text)
