"""A labelled data set, preprocessed and ready to be fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cimrobust.data.decision import Decision


@dataclass(frozen=True)
class DataSource:
    """Where a data set came from, for the certificate.

    Attributes:
        description: File that describes the data, as the user named it, or the data file itself.
        files: Name and SHA-256 digest of every file read.
        steps: Preprocessing per graph input, as written in the description.
        num_available: Samples in the file.
        labels_of: Name and SHA-256 digest of every file of the network whose decisions are the labels; empty: no other network's are.
    """

    description: str
    files: Mapping[str, str]
    steps: Mapping[str, tuple[Mapping[str, object], ...]]
    num_available: int
    labels_of: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSet:
    """Samples as the network takes them.

    Attributes:
        inputs: Per graph input, samples along the first axis.
        constants: Graph inputs that get the same array in every run, without a sample axis.
        labels: One label or target a sample (or an array of them); None: the model's own clean decisions.
        decision: How an output is read and scored.
        source: Provenance.
    """

    inputs: Mapping[str, np.ndarray]
    constants: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    decision: Decision
    source: DataSource

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return int(next(iter(self.inputs.values())).shape[0])
