"""Chips that miss a required score, as an event with a distance to it.

What methods need that walk towards failing chips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.class_logits import class_logits, decisive_logits
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Int64, Shaped
    from cimrobust.data.decision import Score
    from cimrobust.data.task import Task

# Converters round margins, so that chips may tie at the w-th: then the mean of the smallest 4 w
# decides, far below any difference between margins in float32.
_NEIGHBOURS = 4
_TIE_BREAK = 1e-9
_TINY = float(np.nextafter(0.0, 1.0))
_LARGE = float(np.finfo(np.float32).max)


class FailureScore:
    """A number that is 0 or less exactly if a chip misses a score.

    It falls as the chip comes nearer to that.

    An accuracy is missed exactly if at least w decisions are wrong, and they are exactly if the
    w-th smallest margin is not positive; so the score is that margin, which has no plateaus
    where the accuracy has. For an error it is the requirement minus the error.

    Attributes:
        num_wrong: w; None for regression.
    """

    def __init__(self, task: Task, below: float) -> None:
        """Prepare the score.

        Args:
            task: Reads and judges outputs.
            below: Score that chips have to reach; an error they may not exceed.

        Raises:
            UsageError: The output is the decision itself, so there is no margin; or no chip can
                miss the score.
        """
        if task.decision.read == "label":
            raise UsageError(
                "rare events need an output with scores of classes, got one with the decision"
                ' itself ([decision] read = "label"); export the network without its last ArgMax'
            )
        self._task, self._below = task, below
        self.num_wrong = None if task.is_regression else wrong_needed(task.num_decisions, below)

    def __call__(self, output: Shaped[np.ndarray, "samples *outputs"]) -> float:
        """Return the score of a chip from its decision output on all samples."""
        if self.num_wrong is None:
            score = self._below - self._task.score(output).value
            return (
                score if score != 0.0 else _TINY
            )  # an error that equals the requirement is no miss
        lowest = np.sort(self.margins(output))[: _NEIGHBOURS * self.num_wrong]
        margin, others = float(lowest[self.num_wrong - 1]), lowest[np.isfinite(lowest)]
        moved = margin + _TIE_BREAK * float(others.mean()) if others.size else margin
        return max(moved, _TINY) if margin > 0.0 else min(moved, 0.0)

    def misses(self, score: Score) -> bool:
        """Tell whether a score is one that misses the requirement."""
        return score.value > self._below if self.num_wrong is None else score.value < self._below

    def margins(
        self, output: Shaped[np.ndarray, "samples *outputs"]
    ) -> Float64[np.ndarray, "counted"]:
        """Return the margin of every decision that is counted, float64.

        Positive exactly where the decision is right.
        """
        return margins_of(self._task, output)


def margins_of(
    task: Task, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "counted"]:
    """Return the margin of every decision that is counted, float64.

    Positive exactly where the decision is right.

    With -infinity among the scores it is as large as the others are apart, with NaN or +infinity
    -infinity.

    Args:
        task: Reads the output, which is not the decision itself.
        output: Decision output, samples first.
    """
    counted = task.counted.ravel()
    right = task.right(output).ravel()[counted]
    labels = task.labels.ravel()[counted]
    if task.axis is None:
        # -infinity is on one side of a threshold as any other number is.
        values = np.maximum(np.asarray(output, dtype=np.float64).reshape(len(output), -1), -_LARGE)
        distance = np.asarray(values - task.threshold_of_each()).reshape(-1)[counted]
        raw = np.where(labels == 1, distance, -distance)
    else:
        logits = class_logits(output, task.axis, lowest_wins=task.decision.read == "argmin")[
            counted
        ]
        raw = _class_margins(decisive_logits(logits, labels, k=task.decision.k), labels)
    # A tie goes to the class that is first; an output without a decision is wrong.
    return np.where(
        right, np.maximum(raw, _TINY), np.where(np.isfinite(raw), np.minimum(raw, 0.0), -np.inf)
    )


def wrong_needed(num_decisions: int, below: float) -> int:
    """Return how many wrong decisions make an accuracy smaller than required.

    Compared as everywhere, count over number in float64.

    Raises:
        UsageError: No number of them does.
    """
    missing = np.flatnonzero(np.arange(num_decisions, -1, -1) / num_decisions < below)
    if missing.size == 0:
        raise UsageError(
            f"accuracy that a chip may miss must be more than 0, got {below} (option --below); give"
            " a fraction such as 0.9"
        )
    if missing[0] == 0:
        raise UsageError(
            f"accuracy that a chip may miss must be at most 1, got {below} (option --below); give a"
            " fraction such as 0.9"
        )
    return int(missing[0])


def _class_margins(
    logits: Float64[np.ndarray, "decisions classes"], labels: Int64[np.ndarray, "decisions"]
) -> Float64[np.ndarray, "decisions"]:
    """Return the score of the labelled class minus the best other one."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    finite = np.isfinite(logits).all(axis=1)
    best = np.where(finite, others.max(axis=1), 0.0)
    return np.where(finite, own, -np.inf) - best
