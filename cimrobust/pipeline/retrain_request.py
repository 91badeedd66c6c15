"""What a re-training was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cimrobust.run import Run
from cimrobust.settings.command_settings import RetrainSettings
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.training_settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """What a re-training was asked for.

    Attributes:
        subject: What is re-trained, as it was named.
        settings: Which method trains, and what is certified.
        training: How the training runs.
        run: How certificates are computed.
        out: Folder for everything.
    """

    subject: SubjectSettings
    settings: RetrainSettings
    training: TrainingSettings
    run: Run
    out: Path

    @property
    def model(self) -> Path:
        """The network before training."""
        return Path(self.subject.model)
