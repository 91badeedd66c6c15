"""A certificate as users of the Python API hold it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.models import (
    CertificateModel,
    Certified,
    Clean,
    Device,
    Diagnostics,
    Mapping,
    Metric,
    Model,
    MonteCarlo,
    Verdict,
    WorstFound,
)
from cimrobust.certificate.notebook_chart import bracket_svg
from cimrobust.certificate.notebook_view import notebook_view, score_text
from cimrobust.certificate.result_names import REPORT, WITNESS
from cimrobust.certificate.saved_result import SavedResult
from cimrobust.errors import UsageError
from cimrobust.input_file import printable


@dataclass(frozen=True, repr=False)
class Certificate(SavedResult):
    """A certificate and the folder of its files.

    Attributes:
        record: Everything that certificate.json says, as typed and documented models
            (`cimrobust.certificate.models`); the blocks that are read most are attributes of the
            certificate itself: ``certificate.worst_found.score``, ``certificate.verdict.word``,
            ``certificate.monte_carlo.kpp[0].lower_bound``.
        directory: Folder of certificate.json, certificate.html, witness/, trials.parquet and, where
            samples are certified, certified.parquet; manifest.json has the digests of them all.
    """

    record: CertificateModel
    directory: Path

    @classmethod
    def read(cls, directory: str | Path) -> Self:
        """Read the certificate in a folder, of the current version of the format or an older one.

        Raises:
            InputRefusedError: It is missing, not JSON, or does not follow its schema.
            UsageError: The folder is no path.
        """
        if not isinstance(directory, str | Path):
            raise UsageError(
                f"directory must be a folder, got {type(directory).__name__} (directory); give the"
                " path of what `cimrobust analyze --out` wrote"
            )
        return cls(read_certificate(Path(directory)), Path(directory))

    @property
    def data(self) -> dict[str, Any]:
        """The certificate as plain values, as in certificate.json."""
        return self.record.model_dump()

    @property
    def html(self) -> Path:
        """The report."""
        return self.directory / REPORT

    @property
    def witness(self) -> Path:
        """The worst chip found, as an ONNX file."""
        return self.directory / WITNESS / "worst_case.onnx"

    @property
    def verdict(self) -> Verdict:
        """What the certificate says against the policy."""
        return self.record.verdict

    @property
    def metric(self) -> Metric:
        """What a score is."""
        return self.record.metric

    @property
    def model(self) -> Model:
        """The network that was certified."""
        return self.record.model

    @property
    def device(self) -> Device:
        """The device profile, defaults filled in."""
        return self.record.device

    @property
    def mapping(self) -> Mapping:
        """What is stored in devices, layer by layer, and what is not."""
        return self.record.mapping

    @property
    def clean(self) -> Clean:
        """Scores without deviation."""
        return self.record.clean

    @property
    def monte_carlo(self) -> MonteCarlo:
        """Chips drawn from the stated distribution."""
        return self.record.monte_carlo

    @property
    def worst_found(self) -> WorstFound:
        """The worst chip found."""
        return self.record.worst_found

    @property
    def certified(self) -> Certified:
        """The sound bound, or why there is none."""
        return self.record.certified

    @property
    def diagnostics(self) -> Diagnostics | None:
        """What explains the numbers; None: nothing was asked for."""
        return self.record.diagnostics

    def __repr__(self) -> str:
        """Say what was certified and how it ended, in one line."""
        worst, clean = score_text(self.worst_found.score), score_text(self.clean.score)
        return (
            f"<Certificate of {printable(self.model.name)}: {self.verdict.word}, worst found"
            f" {worst}, clean {clean}, in {printable(self.directory)}>"
        )

    def _repr_html_(self) -> str:
        """Show verdict, main numbers and main chart in a notebook."""
        drawn, proven = self.monte_carlo, self.certified
        rows = [
            ("model file", score_text(self.clean.score)),
            ("programmed without deviation", score_text(self.clean.quantised_score)),
            (f"average of {drawn.trials} drawn chips", score_text(drawn.mean)),
            *(
                (f"all but the worst {entry.k:g} % of chips", score_text(entry.score))
                for entry in drawn.kpp
            ),
            ("worst chip found", score_text(self.worst_found.score)),
            ("certified", score_text(proven.score) if proven.reason is None else proven.reason),
        ]
        return notebook_view(
            f"{self.verdict.word}: {self.model.name}",
            rows,
            columns=("", self.metric.name),
            sentence=self.verdict.sentence,
            place=self.html,
            chart=bracket_svg(self.record),
        )
