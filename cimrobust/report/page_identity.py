"""Which document a page is: what stands in the strip on every screen and on every printed page."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from cimrobust.certificate.certificate_files import canonical_json

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.result_file import ResultFile

_DIGITS_OF_ID = 12
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,:_-()")


@dataclass(frozen=True)
class Identity:
    """Which document a page is.

    Attributes:
        kind: What kind of document.
        subject: Of what: item and version, or the file of the network.
        sha256: Digest of the JSON that the page is made of.
        file: Name of that JSON.
        issued: Day of issue; None: not stated.
        state: issued, or draft where nobody stated a day.
    """

    kind: str
    subject: str
    sha256: str
    file: str
    issued: str | None = None
    state: str = ""

    @property
    def document(self) -> str:
        """The id of the document: the first digits of the digest."""
        return self.sha256[:_DIGITS_OF_ID]


def digest_of(record: ResultFile) -> str:
    """Return the digest of a result file.

    It is the digest of the file that was read, or of what is written.
    """
    return record.file_sha256 or hashlib.sha256(canonical_json(record).encode("utf-8")).hexdigest()


def of_certificate(certificate: CertificateModel) -> Identity:
    """Return which document the page of a certificate is."""
    item = certificate.item
    named = "" if item is None else " ".join(part for part in (item.name, item.version) if part)
    return Identity(
        kind="robustness certificate",
        subject=named or certificate.model.name,
        sha256=digest_of(certificate),
        file="certificate.json",
        issued=certificate.issued,
        state="draft" if certificate.issued is None else "issued",
    )


def css_text(text: str) -> Markup:
    """Return a text as the inside of a CSS string.

    It can end neither the string nor the style sheet.
    """
    return Markup("".join(char if char in _PLAIN else f"\\{ord(char):x} " for char in text))
