"""Which results a folder holds."""

from __future__ import annotations

from pathlib import Path

from cimrobust.certificate.result_names import CERTIFICATE, RESULT_FILES, RETRAINING
from cimrobust.errors import UsageError
from cimrobust.input_file import printable


def results_in(directory: Path) -> list[str]:
    """Return the names of the result files in a folder."""
    return [name for name in RESULT_FILES if (directory / name).is_file()]


def require_certificate(directory: Path, *, what: str = "gate") -> None:
    """Raise UsageError for the folder of a sweep or a re-training where a certificate is asked for.

    Args:
        directory: The folder.
        what: Who asks for it.
    """
    found = results_in(directory)
    if not found or CERTIFICATE in found:
        return
    shown = printable(directory)
    hint = (
        f"{shown}/after holds the certificate of the re-trained network"
        if RETRAINING in found
        else (
            "a sweep has no verdict, so certify the tolerance that is to be shipped with `cimrobust"
            " analyze --tolerance`"
        )
    )
    kind = "a re-training" if RETRAINING in found else "a sweep"
    raise UsageError(
        f"{what} must have the folder of a certificate, got that of {kind} ({shown}, {found[0]});"
        f" {hint}"
    )
