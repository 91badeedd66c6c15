"""What `report`, `sign`, `verify-signature` and `bom` print with `--json`."""

from __future__ import annotations

from cimrobust.certificate.models.attested import Attestation
from cimrobust.certificate.models.listed import Sha256
from cimrobust.certificate.models.printed_base import Printed
from cimrobust.certificate.models.result_file import Word


class ReportOutput(Printed):
    """What `report` prints with `--json`: the pages that it wrote."""

    NAME = "report-output"

    written: list[str]
    """Files that were written."""
    result: str
    """File of the result that they show."""
    result_sha256: Sha256
    """Its SHA-256: for a certificate the digest that gate states too."""


class BomOutput(Printed):
    """What `bom` prints with `--json`: the bill of materials that it wrote."""

    NAME = "bom-output"

    file: str
    """The file."""
    sha256: Sha256
    """Its SHA-256."""


class SignOutput(Printed):
    """What `sign` prints with `--json`: the signatures that it wrote."""

    NAME = "sign-output"

    files: list[str]
    """Files of the signatures."""
    word: Word
    """Verdict that was signed."""
    keyid: str | None
    """Id of the key; null: signed by sigstore."""


class VerifySignatureOutput(Printed):
    """What `verify-signature` prints with `--json`: who signed, and what."""

    NAME = "verify-signature-output"

    identity: str
    """Who signed, as asked."""
    files: list[str]
    """Files with a valid signature."""
    model: dict[str, Sha256]
    """SHA-256 of the files of the model by name."""
    model_compared: bool
    """Whether they were compared with a model that was given."""
    attestation: Attestation
    """What is signed about the certificate."""
    not_said: str
    """What no signature says."""
