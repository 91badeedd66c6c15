"""What an analysis says in Markdown, for pull requests and the summaries of pipelines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.gate_outcome import GateOutcome
from cimrobust.certificate.pull_request_summary import append_summary, write_summary
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.pipeline.resolved_analysis import ResolvedAnalysis


@dataclass(frozen=True)
class Summaries:
    """Where the summary of an analysis goes.

    Attributes:
        own: A file of its own; None: none.
        collected: A file that other steps of a pipeline write to as well; None: none.
    """

    own: str | Path | None = None
    collected: Path | None = None

    def check(self) -> None:
        """Raise UsageError where the file cannot be written to: before the work, not after it."""
        if self.own is None:
            return
        path = Path(self.own)
        place = next((part for part in (path, *path.parents) if part.exists()), path)
        is_wrong = path.is_dir() if place == path else not place.is_dir()
        if is_wrong or not os.access(place, os.W_OK):
            raise UsageError(
                f"summary must be a file that can be written, got {path} (--summary); choose"
                " another file"
            )

    def write(self, asked: ResolvedAnalysis) -> None:
        """Write what the finished certificate of an analysis says.

        Raises:
            UsageError: A place cannot be written to.
        """
        if self.own is None and self.collected is None:
            return
        outcome = GateOutcome.of_analysis(
            read_certificate(asked.out),
            asked.out,
            model=Path(asked.subject.model),
            data=str(asked.subject.data),
        )
        if self.own is not None:
            write_summary(outcome, Path(self.own))
        if self.collected is not None:
            append_summary(outcome, self.collected)
