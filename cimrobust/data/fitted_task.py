"""Fits the labels of a data set to the output that they judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64, Num, Shaped

from cimrobust.data.class_axis import (
    AxisHint,
    axis_of_labels,
    fits_positions,
    positions,
    possible_axes,
    same_but_ones,
    sole_axis,
)
from cimrobust.data.decision import IGNORED, Decision
from cimrobust.data.labels import check_folders, check_range, class_indices, is_text
from cimrobust.data.task import Task, decided_labels
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet


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


def _squeezed(
    array: Shaped[np.ndarray, "samples *outputs"],
) -> Shaped[np.ndarray, "samples *positions"]:
    return array.reshape(array.shape[0]) if array.size == array.shape[0] else array
