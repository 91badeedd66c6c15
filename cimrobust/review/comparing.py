"""Two certificates side by side, from their folders or files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.assemble_comparison import assemble_comparison
from cimrobust.certificate.certificate_files import atomic_text
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.read_record import read_result
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED, TRIALS
from cimrobust.certificate.score_differences import Side
from cimrobust.certify import per_sample
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.input_file import refusing_what_fails
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.review.result_files import require_certificate

if TYPE_CHECKING:
    from cimrobust.certificate.models.compared_certificates import Comparison
    from cimrobust.settings.python_inputs import FolderLike


@takes_objects
def compare(a: FolderLike, b: FolderLike, *, out: str | Path | None = None) -> Comparison:
    """Compare two certificates, of any version.

    What was equal, numbers side by side, which requirements and layers changed.

    Nothing of their evidence is checked; `cimrobust.replay` does that.

    Args:
        a: Folder of a certificate, its certificate.json, or a `Certificate`.
        b: The other one.
        out: HTML file to write; None: none.

    Returns:
        The comparison; `model_dump()` gives plain values, which follow the published schema of the
        name ``comparison``.

    Raises:
        UsageError: A folder is that of a sweep or a re-training, or the page cannot be written.
        InputRefusedError: There is no certificate, or it does not follow the schema.
    """
    first, second = (_certificate_file(given_path(path)) for path in (a, b))
    whole = given_path(a).is_dir(), given_path(b).is_dir()
    sides = _side(first, has_tables=whole[0]), _side(second, has_tables=whole[1])
    with refusing_what_fails(
        "certificates must be ones that `cimrobust analyze` wrote",
        f"{a}, {b}",
        hint="make them again",
    ):
        found = assemble_comparison(sides[0], sides[1], (sha256_of(first), sha256_of(second)))
    if out is not None:
        # Charts take longer to import than certificates to compare.
        from cimrobust.report.comparison_page import render_comparison  # noqa: PLC0415

        atomic_text(Path(out), render_comparison(found))
    return found


def _certificate_file(path: Path) -> Path:
    """Return the file of a certificate, from itself or from its folder."""
    if not path.is_dir():
        return path
    require_certificate(path, what="compare")
    return path / CERTIFICATE


def _side(path: Path, *, has_tables: bool) -> Side:
    hint = "give the folder that `cimrobust analyze --out` wrote, or its certificate.json"
    certificate = read_result(path, CertificateModel, hint=hint)
    if not has_tables:
        return Side(certificate)
    proven = _proven(path.parent / CERTIFIED, certificate)
    return Side(certificate, _trials(path.parent / TRIALS, certificate), proven)


def _trials(path: Path, certificate: CertificateModel) -> TrialTable | None:
    """Return the drawn chips; None where the table is not there, or not that of the certificate."""
    try:
        table = from_parquet(path)
    except InputRefusedError:
        return None
    drawn = certificate.monte_carlo
    is_its_own = (table.num_trials, table.seed, table.metric) == (
        drawn.trials,
        drawn.seed,
        certificate.metric.name,
    )
    return (
        table
        if is_its_own
        and (float(table.value.min()), float(table.value.max())) == (drawn.min, drawn.max)
        else None
    )


def _proven(path: Path, certificate: CertificateModel) -> per_sample.PerSample | None:
    """Return what is proven of every sample.

    None where the table is not there, or not that of the certificate.
    """
    try:
        table = per_sample.from_parquet(path)
    except InputRefusedError:
        return None
    proven = certificate.certified
    return (
        table
        if (int(table.certified.sum()), len(table.certified)) == (proven.correct, proven.samples)
        else None
    )
