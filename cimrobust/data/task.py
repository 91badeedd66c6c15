"""What an output means: decisions, scores, and which of two scores is worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num, Shaped

from cimrobust.data.class_logits import class_logits, decisive_logits, have_decision
from cimrobust.data.decision import IGNORED, NO_DECISION, Decision, LabelValue, Score
from cimrobust.data.labels import as_text, is_text
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.class_axis import (
        positions,
    )

LOWER_IS_BETTER = frozenset({"rmse", "mae", "mse", "max_error"})


@dataclass(frozen=True)
class Task:
    """Reads decisions from an output and scores them against labels.

    Attributes:
        decision: How an output is read.
        labels: Labels, int64, samples first (more axes for one decision a position), `IGNORED`
            where a decision is not counted, which is never so for all of a sample;
            targets float64 in the output's shape for regression.
        axis: Class axis of the output, the sample axis counted; None where no class is chosen.
        num_classes: Classes there are; None for regression.
        thresholds: For ``threshold``: one for each decision of a sample, float64 [decisions of a
            sample]; None: that of `decision` for all.
        classes: For ``label``: what the output holds for each class; None: its index.
        axis_reason: Why this is the class axis where neither the description nor the labels say so;
            empty: they do.
    """

    decision: Decision
    labels: Int64[np.ndarray, "samples *positions"] | Float64[np.ndarray, "samples *outputs"]
    axis: int | None
    num_classes: int | None
    thresholds: Float64[np.ndarray, "decisions"] | None = None
    classes: tuple[LabelValue, ...] | None = None
    axis_reason: str = ""

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.decision.metric

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is a better one."""
        return self.decision.metric not in LOWER_IS_BETTER

    @property
    def is_regression(self) -> bool:
        """Whether values are scored, not decisions."""
        return self.decision.read == "value"

    @property
    def counted(self) -> Bool[np.ndarray, "samples *positions"]:
        """Which decisions are counted, bool in the labels' shape."""
        return (
            np.ones(self.labels.shape, dtype=bool)
            if self.is_regression
            else np.asarray(self.labels != IGNORED)
        )

    @property
    def num_decisions(self) -> int:
        """Decisions that are counted."""
        return int(self.counted.sum())

    @property
    def most_decisions(self) -> int:
        """Decisions that a sample has at most."""
        return int(np.prod(self.labels.shape[1:], dtype=np.int64))

    def threshold_of_each(self) -> Float64[np.ndarray, "decisions"]:
        """Return the threshold of each decision of a sample, float64 [decisions of a sample]."""
        if self.thresholds is not None:
            return self.thresholds
        return np.full(self.most_decisions, self.decision.threshold, dtype=np.float64)

    def decide(
        self, output: Shaped[np.ndarray, "samples *outputs"]
    ) -> Int64[np.ndarray, "samples *positions"]:
        """Return the decisions an output stands for, int64 in the labels' shape.

        `NO_DECISION` where a score is NaN or +infinity, or none is finite.

        A score of -infinity is that of a class that is never chosen. For ``topk`` the decision is
        the label where that is among the k highest scores, else the class
        of the highest.

        Args:
            output: Decision output, samples first.
        """
        read = self.decision.read
        if read == "threshold":
            scores = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
            broken = np.isnan(scores) | np.isposinf(scores)
            decided = np.where(
                broken,
                NO_DECISION,
                _like(scores, self.labels).reshape(scores.shape) > self.threshold_of_each(),
            )
            return decided.astype(np.int64).reshape(self.labels.shape)
        if read == "label":
            return _like(decided_labels(np.asarray(output), self.classes), self.labels)
        if self.axis is None:
            raise UsageError("a regression has no decisions; score its values")
        if read == "topk":
            return self._among_best(output)
        chosen, best = (np.argmin, np.min) if read == "argmin" else (np.argmax, np.max)
        # The best score is NaN or of the wrong infinity exactly if some score is, or none is
        # finite.
        legal = np.isfinite(best(output, axis=self.axis))
        return _like(
            np.where(legal, chosen(output, axis=self.axis), NO_DECISION).astype(np.int64),
            self.labels,
        )

    def _among_best(
        self, output: Num[np.ndarray, "samples *outputs"]
    ) -> Int64[np.ndarray, "samples *positions"]:
        assert self.axis is not None
        logits = class_logits(output, self.axis, lowest_wins=False)
        labels = _like(self.labels, logits[:, 0])
        known = np.where(labels == IGNORED, 0, labels)
        is_among = (decisive_logits(logits, known, k=self.decision.k).argmax(axis=1) == known) & (
            labels != IGNORED
        )
        decided = np.where(is_among, labels, logits.argmax(axis=1))
        return (
            np.where(have_decision(logits), decided, NO_DECISION)
            .astype(np.int64)
            .reshape(self.labels.shape)
        )

    def broken(
        self, output: Shaped[np.ndarray, "samples *outputs"]
    ) -> Bool[np.ndarray, "samples *positions"]:
        """Return which decisions an output does not have, bool in the labels' shape.

        For a regression, which values. Those that are not counted are left out.
        """
        if self.is_regression:
            return np.asarray(~np.isfinite(np.asarray(output, dtype=np.float64))).reshape(
                self.labels.shape
            )
        return np.asarray((self.decide(output) == NO_DECISION) & self.counted)

    def right(
        self, output: Shaped[np.ndarray, "samples *outputs"]
    ) -> Bool[np.ndarray, "samples *positions"]:
        """Return which decisions are right, bool in the labels' shape.

        One that is not counted is not.
        """
        return np.asarray(self.decide(output) == self.labels)

    def score(self, output: Shaped[np.ndarray, "samples *outputs"]) -> Score:
        """Score an output against the labels.

        An output that is NaN or infinite counts as a wrong decision, and as an infinite error.
        """
        if self.is_regression:
            return Score(_error(self.metric, output, self.labels), None, int(self.labels.shape[0]))
        right, counted = int(self.right(output).sum()), self.num_decisions
        return Score(float(right) / counted, right, counted)

    def is_worse(self, first: Score, second: Score) -> bool:
        """Tell whether the first score is worse than the second; equal scores are not."""
        return first.value < second.value if self.higher_is_better else first.value > second.value

    def confusion(
        self, output: Shaped[np.ndarray, "samples *outputs"]
    ) -> Int64[np.ndarray, "classes classes+1"]:
        """Return how often each class (row) was decided as each class (column).

        The counts are int64 [num_classes, num_classes + 1]. The last column counts outputs that
        have no decision or no known class.
        """
        if self.num_classes is None:
            raise UsageError("a regression has no classes; score its values")
        counted = self.counted.ravel()
        decided, labels = self.decide(output).ravel()[counted], self.labels.ravel()[counted]
        known = (decided >= 0) & (decided < self.num_classes)
        table = np.zeros((self.num_classes, self.num_classes + 1), dtype=np.int64)
        np.add.at(table, (labels, np.where(known, decided, self.num_classes)), 1)
        return table


def decided_labels(
    output: Shaped[np.ndarray, "*shape"], classes: tuple[LabelValue, ...] | None
) -> Int64[np.ndarray, "*shape"]:
    """Return the classes that an output names itself, int64 in its shape.

    `NO_DECISION` for what is no class.

    Args:
        output: Whole numbers, or text.
        classes: What it holds for each class; None: its index.
    """
    if classes is None:
        if is_text(output):
            raise UsageError(
                "decision output must hold numbers, got text ([decision] output); list the classes:"
                " [label] classes = [...], or read the scores beside it"
            )
        with np.errstate(invalid="ignore"):
            whole = output.astype(np.int64)
        return np.where((whole >= 0) & (whole == output), whole, NO_DECISION)
    places = {value: place for place, value in enumerate(classes)}
    values, inverse = np.unique(as_text(output) if is_text(output) else output, return_inverse=True)
    found = np.array([places.get(value.item(), NO_DECISION) for value in values], dtype=np.int64)
    return found[inverse.reshape(-1)].reshape(output.shape)


def _like(
    array: Shaped[np.ndarray, "..."], labels: Shaped[np.ndarray, "*shape"]
) -> Shaped[np.ndarray, "*shape"]:
    if array.size != labels.size:
        raise UsageError(
            f"decisions must be as many as labels, got shapes {list(array.shape)} and"
            f" {list(labels.shape)}; check [label] and [decision]"
        )
    return array.reshape(labels.shape)


def _error(
    metric: str, output: Shaped[np.ndarray, "..."], targets: Float64[np.ndarray, "samples *outputs"]
) -> float:
    with np.errstate(
        invalid="ignore"
    ):  # targets may be the network's own outputs, infinite ones among them
        difference = np.asarray(output, dtype=np.float64).reshape(targets.shape) - targets
    if not np.isfinite(difference).all():
        return float("inf")
    if metric == "rmse":
        return float(np.sqrt(np.mean(difference**2)))
    if metric == "mse":
        return float(np.mean(difference**2))
    if metric == "mae":
        return float(np.mean(np.abs(difference)))
    return float(np.max(np.abs(difference)))
