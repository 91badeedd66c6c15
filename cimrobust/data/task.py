"""What an output means: decisions, scores, and which of two scores is worse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num, Shaped

from cimrobust.data.class_axis import (
    AxisHint,
    axis_of_labels,
    fits_positions,
    positions,
    possible_axes,
    same_but_ones,
    sole_axis,
)
from cimrobust.data.dataset import DataSet
from cimrobust.data.decision import IGNORED, NO_DECISION, Decision, LabelValue, Score
from cimrobust.data.labels import as_text, check_folders, check_range, class_indices, is_text
from cimrobust.data.rows import class_rows, decisive_rows, have_decision
from cimrobust.errors import UsageError

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
        rows = class_rows(output, self.axis, lowest_wins=False)
        labels = _like(self.labels, rows[:, 0])
        known = np.where(labels == IGNORED, 0, labels)
        is_among = (decisive_rows(rows, known, k=self.decision.k).argmax(axis=1) == known) & (
            labels != IGNORED
        )
        decided = np.where(is_among, labels, rows.argmax(axis=1))
        return (
            np.where(have_decision(rows), decided, NO_DECISION)
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


def make_task(
    dataset: DataSet, clean_output: Shaped[np.ndarray, "..."], *, hint: AxisHint | None = None
) -> Task:
    """Fit the labels of a data set to the output they judge.

    Args:
        dataset: Samples, labels and decision.
        clean_output: Decision output of the clean model on all samples; gives the class axis, and
            the labels where the data set has none.
        hint: What the graph says about the class axis; used for stored outputs, which come without
            a description.

    Raises:
        UsageError: Output and labels do not fit, or in more than one way; says the shapes and the
            key to set.
    """
    decision, output = dataset.decision, np.asarray(clean_output)
    if output.shape[:1] != (dataset.num_samples,) or not output.size:
        raise UsageError(
            f"decision output must have one entry a sample ({dataset.num_samples}), got shape"
            f" {list(output.shape)}; choose another [decision] output"
        )
    if (
        dataset.labels is not None
        and dataset.reading.kind == "stored"
        and not same_but_ones(dataset.labels.shape, output.shape)
    ):
        raise UsageError(
            "stored outputs must have the shape of the decision output, got"
            f" {list(dataset.labels.shape)} and {list(output.shape)}; choose another [decision]"
            " output"
        )
    if is_text(output) and decision.read != "label":
        raise UsageError(
            f"{decision.read} needs an output of numbers, got text; choose another [decision]"
            ' output, or use read = "label"'
        )
    if decision.read == "value":
        return Task(decision, _targets(dataset, output), None, None)
    if decision.chooses:
        return _class_task(dataset, output, hint)
    return (
        _label_task(dataset, output)
        if decision.read == "label"
        else _threshold_task(dataset, output)
    )


def _class_task(
    dataset: DataSet, output: Num[np.ndarray, "samples *outputs"], hint: AxisHint | None
) -> Task:
    decision, labels, reading = dataset.decision, dataset.labels, dataset.reading
    axes = possible_axes(decision, output.shape)
    _check_classes(decision, max(output.shape[axis] for axis in axes), output)
    if labels is None or reading.kind == "stored":
        taken = hint if reading.kind == "stored" and labels is not None else None
        axis = sole_axis(axes, output.shape, taken)
        reason = taken.reason if taken is not None and len(axes) > 1 else ""
        source = output if labels is None else labels.reshape(output.shape)
        chosen = (np.argmin if decision.read == "argmin" else np.argmax)(source, axis=axis).astype(
            np.int64
        )
        return Task(decision, chosen, axis, output.shape[axis], axis_reason=reason)
    axis, is_one_hot = axis_of_labels(axes, output.shape, labels)
    num_classes = output.shape[axis]
    _check_classes(decision, num_classes, output)
    indices = (
        labels.reshape(output.shape).argmax(axis=axis)
        if is_one_hot
        else class_indices(labels, reading)
    )
    check_folders(reading, num_classes)
    check_range(indices, num_classes, reading)
    return Task(
        decision, indices.astype(np.int64).reshape(positions(output.shape, axis)), axis, num_classes
    )


def _check_classes(
    decision: Decision, num_classes: int, output: Num[np.ndarray, "samples *outputs"]
) -> None:
    if num_classes < 2:
        raise UsageError(
            f"{decision.read} needs at least two classes, got {num_classes} in an output of shape"
            f' {list(output.shape)}; for one score a sample use read = "threshold" with a value'
        )
    if decision.read == "topk" and decision.k >= num_classes:
        raise UsageError(
            f"k must be less than the number of classes, {num_classes}, got {decision.k}"
            " ([decision] k); give a smaller one"
        )


def _label_task(dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]) -> Task:
    decision, classes = dataset.decision, dataset.reading.classes
    decided = _squeezed(decided_labels(output, classes))
    labels = decided if dataset.labels is None else _one_each(dataset, decided)
    counted = labels[labels != IGNORED]
    # An output that is a label has as many classes as labels are seen, unless they are listed.
    num_classes = (
        len(classes) if classes is not None else int(max(counted.max(), decided.max())) + 1
    )
    check_range(counted, max(num_classes, 1), dataset.reading)
    return Task(decision, labels, None, max(num_classes, 1), classes=classes)


def _threshold_task(dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]) -> Task:
    decision = dataset.decision
    thresholds = _thresholds(decision, output)
    over = np.asarray(output.reshape(len(output), -1) > thresholds).astype(np.int64)
    labels = (
        over.reshape(_squeezed(output).shape)
        if dataset.labels is None
        else _one_each(dataset, _squeezed(output), thresholds)
    )
    check_folders(dataset.reading, 2)
    check_range(labels, 2, dataset.reading)
    return Task(decision, labels, None, 2, thresholds=thresholds)


def _thresholds(
    decision: Decision, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "decisions"]:
    """Return the threshold of each decision of a sample, float64."""
    shape = output.shape[1:]
    if not isinstance(decision.threshold, tuple):
        return np.full(int(np.prod(shape, dtype=np.int64)), decision.threshold, dtype=np.float64)
    count = len(decision.threshold)
    given = [] if decision.axis is None else possible_axes(decision, output.shape)
    fits = given or [axis for axis in range(1, output.ndim) if output.shape[axis] == count]
    if len(fits) != 1 or output.shape[fits[0]] != count:
        where = "several axes fit" if len(fits) > 1 else "no axis fits"
        raise UsageError(
            f"thresholds must be one, or one for each entry of an axis of the output, got {count}"
            f" for shape {list(output.shape)}, {where} ([decision] value); give one for each label,"
            " and [decision] axis where several axes fit"
        )
    spread = np.asarray(decision.threshold, dtype=np.float64).reshape(
        [count if axis == fits[0] else 1 for axis in range(1, output.ndim)]
    )
    return np.broadcast_to(spread, shape).reshape(-1)


def _one_each(
    dataset: DataSet,
    decided: Shaped[np.ndarray, "samples *positions"],
    thresholds: Float64[np.ndarray, "decisions"] | None = None,
) -> Int64[np.ndarray, "samples *positions"]:
    """Return labels as indices in the shape of the decisions, of which there is one each."""
    labels = dataset.labels
    assert labels is not None
    if not fits_positions(labels.shape, decided.shape):
        raise UsageError(
            f"labels must give one class for each of {list(decided.shape)} decisions, got shape"
            f" {list(labels.shape)}; check [label] and [decision]"
        )
    labels = labels.reshape(decided.shape)
    if dataset.reading.kind != "stored":
        return class_indices(labels, dataset.reading)
    if thresholds is None:
        return decided_labels(labels, dataset.reading.classes)
    return (
        np.asarray(labels.reshape(len(labels), -1) > thresholds)
        .astype(np.int64)
        .reshape(labels.shape)
    )


def _targets(
    dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "samples *outputs"]:
    targets = output if dataset.labels is None else dataset.labels
    if is_text(targets):
        raise UsageError(
            "targets must be numbers, got text ([label] array); read classes by [decision] read ="
            ' "argmax"'
        )
    if not fits_positions(targets.shape, output.shape):
        raise UsageError(
            f"targets must be as many as output values, got shape {list(targets.shape)} for an"
            f" output of shape {list(output.shape)}; check [label]"
        )
    return targets.astype(np.float64).reshape(output.shape)


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


def _squeezed(
    array: Shaped[np.ndarray, "samples *outputs"],
) -> Shaped[np.ndarray, "samples *positions"]:
    return array.reshape(array.shape[0]) if array.size == array.shape[0] else array


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
