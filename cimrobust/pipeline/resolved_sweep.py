"""A sweep that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cimrobust.certificate.models import Setting
from cimrobust.cluster.address import Address
from cimrobust.pipeline.stated_settings import state
from cimrobust.run import Run
from cimrobust.settings import commands
from cimrobust.settings.command_settings import SweepSettings
from cimrobust.settings.subject_settings import SubjectSettings

DEFAULT_TRIALS = {"quick": 300, "standard": 1000, "thorough": 3000}


@dataclass(frozen=True, kw_only=True)
class ResolvedSweep:
    """A sweep that was asked for, checked.

    Attributes:
        subject: What is examined, as it was named.
        settings: What else was asked for.
        run: How to compute.
        out: Folder of the sweep.
        tolerances: Ascending, each once.
        cluster: Where chips are scored and samples certified; None: in the threads of this process.
    """

    subject: SubjectSettings
    settings: SweepSettings
    run: Run
    out: Path
    tolerances: Sequence[float]
    cluster: Address | None = None

    @property
    def num_trials(self) -> int:
        """Chips drawn at every tolerance."""
        return self.settings.trials or DEFAULT_TRIALS[self.run.effort]

    def stated(self) -> tuple[Setting, ...]:
        """Return what sweep.json says of how it was made."""
        tolerances = ",".join(f"{tolerance:g}" for tolerance in self.tolerances)
        return state(
            commands.SWEEP,
            (self.subject, self.settings, self.run),
            instead=(
                Setting(key="tolerances", value=tolerances, is_default=False),
                Setting(
                    key="trials", value=self.num_trials, is_default=self.settings.trials is None
                ),
            ),
        )
