"""The decisions that are bounded, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

if TYPE_CHECKING:
    from cimrobust.data.task import Task


@dataclass(frozen=True)
class CountedDecisions:
    """Decisions in the order in which a score counts them; of a regression: samples.

    Attributes:
        samples: The sample of each, int64 [decisions].
        positions: Which of the decisions of its sample each is, int64 [decisions].
        labels: Label of each, int64 [decisions]; of a regression its targets [samples, ...].
    """

    samples: Int64[np.ndarray, "decisions"]
    positions: Int64[np.ndarray, "decisions"]
    labels: Shaped[np.ndarray, "decisions ..."]

    @property
    def units(self) -> str:
        """What they are called in a sentence."""
        return "decisions" if self.positions.any() else "samples"

    def together(
        self, indices: Int64[np.ndarray, "batch"]
    ) -> tuple[Int64[np.ndarray, "samples"], Int64[np.ndarray, "batch"]]:
        """Return the samples of some decisions, each once, and which of them each is of."""
        samples, first, rows = np.unique(
            self.samples[indices], return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        return samples[order], np.argsort(order)[rows]

    @staticmethod
    def of(task: Task) -> CountedDecisions:
        """Return the decisions of a task that are counted."""
        count = len(task.labels)
        if task.is_regression:
            return CountedDecisions(np.arange(count), np.zeros(count, np.int64), task.labels)
        samples, positions = np.nonzero(task.counted.reshape(count, -1))
        return CountedDecisions(
            samples, positions, task.labels.reshape(count, -1)[samples, positions]
        )

    def part_of(
        self, values: Shaped[np.ndarray, "samples *positions"]
    ) -> Shaped[np.ndarray, "decisions"]:
        """Return the entries of these decisions in an array of the labels' shape."""
        chosen: Shaped[np.ndarray, "decisions"] = values.reshape(len(values), -1)[
            self.samples, self.positions
        ]
        return chosen
