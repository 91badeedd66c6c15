"""The decisions of an attack set that are counted, and the samples that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from cimrobust.search.readout import decisive
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    from cimrobust.data.task import Task


@dataclass(frozen=True)
class AttackDecisions:
    """The decisions of an attack set that are counted, in their order.

    Those of one sample are together.

    Attributes:
        counted: Which decisions of every sample are counted.
        labels: Labels (regression: targets) of those that are, on the device of the twin.
        starts: Where the decisions of a sample begin, and after the last one.
        k: A decision is correct where its label is among so many best classes; 0: a regression.
    """

    counted: Bool[np.ndarray, "samples most"]
    labels: Real[Tensor, "decisions"]
    starts: Int64[np.ndarray, "samples_and_end"]
    k: int

    @staticmethod
    def of(
        task: Task, attack_set: Int64[np.ndarray, "samples"], device: torch.device
    ) -> AttackDecisions:
        """Return the decisions of some samples.

        Args:
            task: The decisions of all samples.
            attack_set: Indices of the samples.
            device: Where the twin computes.
        """
        part = replace(task, labels=task.labels[attack_set])
        counted = part.counted.reshape(len(attack_set), -1)
        labels = torch.from_numpy(part.labels.reshape(len(attack_set), -1)[counted])
        return AttackDecisions(
            counted,
            labels.to(torch.float32 if task.is_regression else torch.int64).to(device),
            np.concatenate([[0], np.cumsum(counted.sum(axis=1))]),
            0 if task.is_regression else task.decision.k,
        )

    def positions(self, piece: slice) -> slice:
        """Return which of all decisions those of consecutive samples are."""
        return slice(int(self.starts[piece.start]), int(self.starts[piece.stop]))

    def of_samples(self, samples: Int64[np.ndarray, "some"]) -> Int64[Tensor, "decisions"]:
        """Return which of all decisions those of some samples are, int64, in their order."""
        found = [np.arange(self.starts[sample], self.starts[sample + 1]) for sample in samples]
        return torch.from_numpy(np.concatenate(found)).to(self.labels.device)

    def read(
        self,
        logits: Float[Tensor, "all_decisions classes"],
        samples: slice | Int64[np.ndarray, "some"],
    ) -> Float[Tensor, "decisions classes"]:
        """Return the logits of the decisions that are counted, as `readout.decisive` reads them.

        Args:
            logits: Of all decisions of some samples.
            samples: Which samples, consecutive ones or in an order of their own.
        """
        if not self.k:
            return logits
        counted = self.counted[samples].reshape(-1)
        if logits.shape[0] != len(counted):
            return logits  # not a readout of these decisions, which whoever compares it finds
        if not counted.all():
            logits = logits[torch.from_numpy(np.flatnonzero(counted)).to(self.labels.device)]
        where = self.positions(samples) if isinstance(samples, slice) else self.of_samples(samples)
        return decisive(logits, self.labels[where], k=self.k)

    def safest_first(self, margin: Float[Tensor, "decisions"]) -> Int64[np.ndarray, "samples"]:
        """Return the samples, those first that are correct by the widest margin.

        Args:
            margin: Of all decisions, [decisions].
        """
        finite = torch.nan_to_num(margin, nan=0.0)
        if self.counted.all():
            means = array_of(finite.reshape(len(self.counted), -1).mean(dim=1))
        else:
            sums = np.add.reduceat(array_of(finite.double()), self.starts[:-1])
            means = sums / np.diff(self.starts)
        return np.argsort(-means, kind="stable")
