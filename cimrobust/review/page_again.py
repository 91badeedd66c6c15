"""The page of a result, written again from its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.certificate_files import atomic_bytes, atomic_text, read_certificate
from cimrobust.certificate.manifest import update_manifests
from cimrobust.certificate.result_names import (
    CERTIFICATE,
    CHANGE,
    REPORT,
    RETRAINING,
    RETRAINING_REPORT,
    SWEEP,
    SWEEP_REPORT,
)
from cimrobust.errors import UsageError
from cimrobust.input_file import refusing_what_fails
from cimrobust.pipeline.in_memory import given_folder, takes_objects
from cimrobust.report.archive import pdf_of
from cimrobust.report.render import render, render_retraining
from cimrobust.report.sweep_page import render_sweep
from cimrobust.review.other_results import read_retraining, read_sweep
from cimrobust.review.result_files import results_in

if TYPE_CHECKING:
    from cimrobust.settings.python_inputs import FolderLike

_OURS = "certificate must be one that `cimrobust analyze` wrote"
_HINT = "it follows the schema but contradicts itself; make it again"


@takes_objects
def rewrite_report(
    directory: FolderLike, *, previous: FolderLike | None = None, pdf: str | Path | None = None
) -> list[Path]:
    """Write the page of a certificate, a sweep or a re-training again from its JSON.

    Args:
        directory: Folder of the result, or the result.
        previous: Folder of an earlier certificate; a second page, change.html, compares both. None:
            there is none.
        pdf: File for the page as PDF/A, with the comparison if there is one; None: none is written.

    Returns:
        What was written.

    Raises:
        InputRefusedError: There is no result, or it does not follow its schema.
        UsageError: A file cannot be written, the extra `pdf` is not installed, or a sweep is to be
            set beside a certificate.
    """
    folder = given_folder(directory)
    found = [*results_in(folder), CERTIFICATE][0]
    if previous is not None and found != CERTIFICATE:
        raise UsageError(
            f"an earlier certificate must be set beside a certificate, got {found} ({folder},"
            " --previous); give the folder of one"
        )
    before = None if previous is None else read_certificate(given_folder(previous))
    name, page = _rendered(folder, found)
    compared = None
    if before is not None:
        with refusing_what_fails(_OURS, directory, hint=_HINT):
            compared = render(read_certificate(folder), before)
    document = None if pdf is None else pdf_of(compared or page)
    atomic_text(folder / name, page)
    update_manifests(folder, name)
    written = [folder / name]
    if compared is not None:
        # A page of its own: certificate.html stays what certificate.json alone renders to, which
        # replay and signatures rest on.
        atomic_text(folder / CHANGE, compared)
        written.append(folder / CHANGE)
    if pdf is not None and document is not None:
        atomic_bytes(Path(pdf), document)
        written.append(Path(pdf))
    return written


def _rendered(folder: Path, found: str) -> tuple[str, str]:
    """Return name and content of the page of a result."""
    with refusing_what_fails(f"{found} must be one that cimrobust wrote", folder, hint=_HINT):
        if found == SWEEP:
            return SWEEP_REPORT, render_sweep(read_sweep(folder))
        if found == RETRAINING:
            return RETRAINING_REPORT, render_retraining(read_retraining(folder))
        return REPORT, render(read_certificate(folder))
