"""A labelled data set, preprocessed and ready to be fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int, Shaped

from cimrobust.data.decision import Decision, LabelReading
from cimrobust.errors import UsageError


@dataclass(frozen=True)
class DataSource:
    """Where a data set came from, for the certificate.

    Attributes:
        description: File that describes the data, as the user named it, or the data file itself.
        files: Name and SHA-256 digest of every file read.
        steps: Preprocessing per graph input, as written in the description.
        num_available: Samples in the file.
        num_ignored: Samples of these that have no label that is counted, and are left out.
        labels_of: Name and SHA-256 digest of every file of the network whose decisions are the
            labels; empty: no other network's are.
    """

    description: str
    files: Mapping[str, str]
    steps: Mapping[str, tuple[Mapping[str, object], ...]]
    num_available: int
    labels_of: Mapping[str, str] = field(default_factory=dict)
    num_ignored: int = 0


@dataclass(frozen=True)
class StoredOutput:
    """One output of the graph as somebody stored it.

    Attributes:
        name: Its name, if it was stored.
        array: Samples first.
    """

    name: str
    array: Shaped[np.ndarray, "..."]


@dataclass(frozen=True)
class DataSet:
    """Samples as the network takes them.

    Attributes:
        inputs: Per graph input, samples along the first axis.
        constants: Graph inputs that get the same array in every run, without a sample axis.
        labels: One label or target a sample (or an array of them), as stored; None: the model's own
            clean decisions.
        decision: How an output is read and scored.
        source: Provenance.
        reading: How labels are coded.
        stored: Outputs that came with the samples, in the order of the graph's outputs, with their
            names, which may be empty; see `for_output`.
    """

    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]]
    constants: Mapping[str, Shaped[np.ndarray, "..."]]
    labels: Shaped[np.ndarray, "labels *positions"] | None
    decision: Decision
    source: DataSource
    reading: LabelReading = field(default_factory=LabelReading)
    stored: Mapping[int, StoredOutput] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return int(next(iter(self.inputs.values())).shape[0])

    def part(
        self, samples: slice | Int[np.ndarray, "some"] | Bool[np.ndarray, "samples"]
    ) -> DataSet:
        """Return some of the samples."""
        return replace(
            self,
            inputs={name: array[samples] for name, array in self.inputs.items()},
            labels=None if self.labels is None else self.labels[samples],
            stored={
                index: replace(output, array=output.array[samples])
                for index, output in self.stored.items()
            },
        )

    def for_output(self, name: str, index: int) -> DataSet:
        """Return the data set judged by the stored outputs for one output of the graph.

        One without stored outputs as it is.

        Args:
            name: Name of the output.
            index: Its place among the outputs.

        Raises:
            UsageError: It was not stored, or not for every sample.
        """
        if not self.stored:
            return self
        named = [output for output in self.stored.values() if output.name == name]
        chosen = named[0] if named else self.stored.get(index)
        if chosen is None or (not named and chosen.name):
            held = [output.name or f"output_{place}" for place, output in self.stored.items()]
            raise UsageError(
                f"stored outputs must include the decision output '{name}', got {held} (test data);"
                " choose another [decision] output"
            )
        if chosen.array.shape[:1] != (self.num_samples,):
            raise UsageError(
                f"stored outputs must have one entry a sample ({self.num_samples}) along their"
                f" first axis, got shape {list(chosen.array.shape)} for '{name}' (test data);"
                " choose another [decision] output, or save samples and labels as .npz"
            )
        return replace(self, labels=chosen.array, reading=replace(self.reading, kind="stored"))
