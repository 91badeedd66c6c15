"""The reports that a gate writes, whatever comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.pull_request_summary import append_summary, write_summary

if TYPE_CHECKING:
    from cimrobust.certificate.gate_outcome import GateOutcome


@dataclass(frozen=True)
class GateReports:
    """The files that a gate was asked for; None: not this one.

    Attributes:
        junit: JUnit XML.
        sarif: SARIF 2.1.0.
        summary: Markdown, a file of its own.
        step_summary: Markdown, appended to a file that other steps of a pipeline write to.
    """

    junit: str | Path | None = None
    sarif: str | Path | None = None
    summary: str | Path | None = None
    step_summary: str | Path | None = None

    def write(self, outcome: GateOutcome) -> None:
        """Write every report that was asked for.

        Raises:
            UsageError: A place cannot be written to.
        """
        if self.junit is not None:
            _write_junit(outcome, Path(self.junit))
        if self.sarif is not None:
            # Its library makes some sixty models, so it is loaded for those who ask for it.
            from cimrobust.certificate.sarif import write_sarif  # noqa: PLC0415

            write_sarif(outcome, Path(self.sarif))
        if self.summary is not None:
            write_summary(outcome, Path(self.summary))
        if self.step_summary is not None:
            append_summary(outcome, Path(self.step_summary))


def _write_junit(outcome: GateOutcome, path: Path) -> None:
    # As above: it reads XML too.
    from cimrobust.certificate.junit import write_evidence_junit, write_junit  # noqa: PLC0415

    if outcome.result is None:
        write_evidence_junit(outcome.problems, path, certificate=outcome.certificate)
    else:
        write_junit(outcome.result, path, certificate=outcome.certificate)
