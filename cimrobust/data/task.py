"""What an output means: decisions, scores, and which of two scores is worse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cimrobust.data.dataset import DataSet
from cimrobust.data.decision import Decision, Score
from cimrobust.errors import UsageError

LOWER_IS_BETTER = frozenset({"rmse", "mae", "mse", "max_error"})


@dataclass(frozen=True)
class Task:
    """Reads decisions from an output and scores them against labels.

    Attributes:
        decision: How an output is read.
        labels: Labels, int64, samples first (more axes for one decision a position); targets float64 in the output's shape for regression.
        axis: Class axis of the output, the sample axis counted; None where no class is chosen.
        num_classes: Classes there are; None for regression.
    """

    decision: Decision
    labels: np.ndarray
    axis: int | None
    num_classes: int | None

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

    def decide(self, output: np.ndarray) -> np.ndarray:
        """Return the decisions an output stands for, int64 in the labels' shape; -1, which no label equals, where it is not finite.

        Args:
            output: Decision output, samples first.
        """
        read = self.decision.read
        if read == "threshold":
            scores = _like(np.asarray(output, dtype=np.float64), self.labels)
            return np.where(np.isfinite(scores), scores > self.decision.threshold, -1).astype(np.int64)
        if read == "label":
            return _like(np.asarray(output), self.labels).astype(np.int64)
        if self.axis is None:
            raise UsageError("a regression has no decisions; score its values")
        choose = np.argmin if read == "argmin" else np.argmax
        chosen = choose(output, axis=self.axis)
        finite = np.isfinite(np.asarray(output, dtype=np.float64)).all(axis=self.axis)
        return _like(np.where(finite, chosen, -1).astype(np.int64), self.labels)

    def right(self, output: np.ndarray) -> np.ndarray:
        """Return which decisions are right, bool in the labels' shape."""
        return np.asarray(self.decide(output) == self.labels)

    def score(self, output: np.ndarray) -> Score:
        """Score an output against the labels.

        An output that is not finite counts as a wrong decision, and as an infinite error.
        """
        if self.is_regression:
            return Score(_error(self.metric, output, self.labels), None, int(self.labels.shape[0]))
        right = self.right(output)
        return Score(float(right.sum()) / right.size, int(right.sum()), int(right.size))

    def is_worse(self, first: Score, second: Score) -> bool:
        """Tell whether the first score is worse than the second; equal scores are not."""
        return first.value < second.value if self.higher_is_better else first.value > second.value

    def confusion(self, output: np.ndarray) -> np.ndarray:
        """Return how often each class (row) was decided as each class (column), int64 [num_classes, num_classes + 1].

        The last column counts outputs that were not finite or no known class.
        """
        if self.num_classes is None:
            raise UsageError("a regression has no classes; score its values")
        decided = self.decide(output).ravel()
        known = (decided >= 0) & (decided < self.num_classes)
        table = np.zeros((self.num_classes, self.num_classes + 1), dtype=np.int64)
        np.add.at(table, (self.labels.ravel(), np.where(known, decided, self.num_classes)), 1)
        return table


def make_task(dataset: DataSet, clean_output: np.ndarray) -> Task:
    """Fit the labels of a data set to the output they judge.

    Args:
        dataset: Samples, labels and decision.
        clean_output: Decision output of the clean model on all samples; gives the class axis, and the labels where the data set has none.

    Raises:
        UsageError: Output and labels do not fit; says the shapes and what to change.
    """
    decision = dataset.decision
    output = np.asarray(clean_output)
    if output.shape[:1] != (dataset.num_samples,):
        raise UsageError(
            f"decision output must have one entry a sample ({dataset.num_samples}), got shape {list(output.shape)}; choose another [decision] output"
        )
    if decision.read == "value":
        return Task(decision, _targets(dataset.labels, output), None, None)
    if decision.read in ("argmax", "argmin"):
        return _class_task(decision, dataset.labels, output)
    labels = _own_labels(decision, output) if dataset.labels is None else _integer_labels(dataset.labels)
    labels = _like(labels, _squeezed(output))
    highest = 1 if decision.read == "threshold" else int(max(labels.max(), output.max()))
    _check_range(labels, highest + 1)
    return Task(decision, labels, None, highest + 1)


def _class_task(decision: Decision, labels: np.ndarray | None, output: np.ndarray) -> Task:
    shaped = None if labels is None else _integer_labels(labels, one_hot_classes=output.shape[-1] if output.ndim == 2 else None)
    axis = _class_axis(decision, shaped, output)
    num_classes = output.shape[axis]
    if num_classes < 2:
        raise UsageError(
            f"{decision.read} needs at least two classes, got {num_classes} along axis {axis} of an output of shape {list(output.shape)}; "
            'for one score a sample use read = "threshold" with a value'
        )
    positions = output.shape[:axis] + output.shape[axis + 1 :]
    if shaped is None:
        chosen = (np.argmin if decision.read == "argmin" else np.argmax)(output, axis=axis).astype(np.int64)
        return Task(decision, chosen, axis, num_classes)
    if shaped.size != int(np.prod(positions)):
        raise UsageError(
            f"labels must give one class for each of {list(positions)} decisions, got shape {list(shaped.shape)}; check [label] and [decision]"
        )
    _check_range(shaped, num_classes)
    return Task(decision, shaped.reshape(positions), axis, num_classes)


def _class_axis(decision: Decision, labels: np.ndarray | None, output: np.ndarray) -> int:
    if output.ndim < 2:
        raise UsageError(
            f'{decision.read} needs an axis of classes, got an output of shape {list(output.shape)}; use read = "threshold", "label" or "value"'
        )
    if decision.axis is not None:
        axis = decision.axis + output.ndim if decision.axis < 0 else decision.axis
        if not 1 <= axis < output.ndim:
            raise UsageError(
                f"class axis must be in 1..{output.ndim - 1}, got {decision.axis} ([decision] axis); count the sample axis as 0"
            )
        return axis
    wide = [axis for axis in range(1, output.ndim) if output.shape[axis] > 1]
    if len(wide) <= 1:
        return wide[0] if wide else output.ndim - 1
    if labels is None:
        return 1
    fits = [axis for axis in range(1, output.ndim) if output.shape[:axis] + output.shape[axis + 1 :] == labels.shape]
    return fits[0] if fits else 1


def _integer_labels(labels: np.ndarray, *, one_hot_classes: int | None = None) -> np.ndarray:
    """Return labels as int64; one-hot rows become their class."""
    if one_hot_classes is not None and one_hot_classes > 1 and labels.ndim == 2 and labels.shape[1] == one_hot_classes:
        return np.asarray(labels.argmax(axis=1), dtype=np.int64)
    with np.errstate(invalid="ignore"):  # what does not fit is refused below
        whole = labels.astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(whole, labels):
        raise UsageError('labels must be whole numbers, got fractions ([label] array); for targets use read = "value" and metric = "rmse"')
    return whole


def _own_labels(decision: Decision, output: np.ndarray) -> np.ndarray:
    if decision.read == "label":
        return output.astype(np.int64)
    return np.asarray(output > decision.threshold).astype(np.int64)


def _targets(labels: np.ndarray | None, output: np.ndarray) -> np.ndarray:
    targets = output if labels is None else labels
    if targets.size != output.size:
        raise UsageError(
            f"targets must be as many as output values, got shape {list(targets.shape)} for an output of shape {list(output.shape)}; check [label]"
        )
    return targets.astype(np.float64).reshape(output.shape)


def _check_range(labels: np.ndarray, num_classes: int) -> None:
    wrong = np.flatnonzero((labels.ravel() < 0) | (labels.ravel() >= num_classes))
    if wrong.size:
        first = int(wrong[0])
        raise UsageError(
            f"labels must be in 0..{num_classes - 1}, got {int(labels.ravel()[first])} at sample {first} ([label] array); check which output is decided on"
        )


def _squeezed(array: np.ndarray) -> np.ndarray:
    return array.reshape(array.shape[0]) if array.size == array.shape[0] else array


def _like(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if array.size != labels.size:
        raise UsageError(
            f"decisions must be as many as labels, got shapes {list(array.shape)} and {list(labels.shape)}; check [label] and [decision]"
        )
    return array.reshape(labels.shape)


def _error(metric: str, output: np.ndarray, targets: np.ndarray) -> float:
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
