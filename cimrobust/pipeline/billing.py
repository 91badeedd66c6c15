"""A bill of materials from the folder of a certificate."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.certificate_files import atomic_text, read_certificate
from cimrobust.certificate.extras import needing
from cimrobust.certificate.manifest import ATTESTATION, MANIFEST, require_manifest
from cimrobust.certificate.result_names import CERTIFICATE, WITNESS
from cimrobust.errors import EvidenceRefutedError, UsageError
from cimrobust.files import sha256_of
from cimrobust.input_file import printable, refusing_what_fails
from cimrobust.pipeline.in_memory import given_folder, takes_objects

if TYPE_CHECKING:
    from cimrobust.settings.python_inputs import FolderLike

_CHIP = f"{WITNESS}/worst_case.onnx"


@takes_objects
def bom(directory: FolderLike, *, out: str | Path, timestamp: str | None = None) -> Path:
    """Write the bill of materials of a certified network: CycloneDX 1.6 in JSON, with a model card.

    Scores with their intervals are its metrics, what the certificate does not cover its
    limitations; the certificate is evidence of its claims, the worst chip found counter-evidence.
    The same certificate gives the same file.

    Args:
        directory: Folder of the certificate, or a `Certificate`.
        out: File to write, outside of that folder.
        timestamp: When it is made, as in ``2026-11-29T12:00:00+00:00``; None: not stated.

    Returns:
        Path of the file.

    Raises:
        EvidenceRefutedError: The folder is not as its manifest says, or the witness is not the
            certificate's.
        UsageError: The place or the timestamp is wrong, or the library is missing.
        InputRefusedError: The certificate cannot be read.
    """
    folder, path = given_folder(directory), Path(out)
    made = None if timestamp is None else _instant(timestamp)
    if path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"bill of materials must stand outside of the certificate's folder, got {path} (--out);"
            " its manifest lists every file"
        )
    with needing("bom", "a bill of materials"):
        from cimrobust.certificate.bom.bill import EvidenceFile, bill_of_materials  # noqa: PLC0415
    if (folder / MANIFEST).exists():
        require_manifest(folder)
    certificate = read_certificate(folder)
    witness = EvidenceFile(_CHIP, sha256_of(folder / _CHIP))
    if certificate.worst_found.witness.get(_CHIP) != witness.sha256:
        raise EvidenceRefutedError(
            f"witness must be the one of {CERTIFICATE}, got another file"
            f" ({printable(folder / _CHIP)}); do not trust it"
        )
    stated = EvidenceFile(CERTIFICATE, sha256_of(folder / CERTIFICATE))
    signed = (
        EvidenceFile(ATTESTATION, sha256_of(folder / ATTESTATION))
        if (folder / ATTESTATION).is_file()
        else None
    )
    with refusing_what_fails(
        "certificate must be one that `cimrobust analyze` wrote", folder, hint="make it again"
    ):
        text = bill_of_materials(
            certificate, stated=stated, witness=witness, attestation=signed, timestamp=made
        )
    atomic_text(path, text)
    return path


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = datetime.min
    if instant.tzinfo is None:
        raise UsageError(
            f"timestamp must be like 2026-11-29T12:00:00+00:00, got '{text}' (--timestamp); give"
            " date, time and time zone"
        )
    return instant
