"""Labels as they are stored, read as classes by index.

What fits two readings, or none, is refused with the key that settles it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from cimrobust.data.decision import IGNORED, LabelReading, LabelValue
from cimrobust.errors import UsageError
from cimrobust.input_file import printable

#: Labels that data sets often mean "not to be counted" by.
_USUAL_IGNORED = (255, -1, -100)
_SHOWN = 5
_LARGEST = np.iinfo(np.int64).max


def is_text(labels: Shaped[np.ndarray, "..."]) -> bool:
    """Tell whether an array holds text."""
    return labels.dtype.kind in "USO"


def as_text(labels: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Return text as Unicode; bytes are UTF-8."""
    if labels.dtype.kind == "S":
        return np.asarray(np.char.decode(labels, "utf-8", "replace"))
    return labels.astype(str)


def is_counted(
    labels: Shaped[np.ndarray, "samples *positions"], ignore: Sequence[int]
) -> Bool[np.ndarray, "samples"]:
    """Return which samples have a label that is counted, bool [samples]."""
    if not ignore or is_text(labels):
        return np.ones(len(labels), dtype=bool)
    return np.asarray(np.asarray(~np.isin(labels, ignore)).reshape(len(labels), -1).any(axis=1))


def class_indices(
    labels: Shaped[np.ndarray, "*shape"], reading: LabelReading
) -> Int64[np.ndarray, "*shape"]:
    """Return labels as indices of classes, `IGNORED` where they are not counted.

    The indices are int64 in the labels' own shape; whether they are in range is not looked at.

    Args:
        labels: One label an entry: numbers, booleans or text.
        reading: How they are coded.

    Raises:
        UsageError: Text without a list of classes, a label that the list does not have, or
            fractions.
    """
    if reading.kind == "indices":
        return labels.astype(np.int64)
    if is_text(labels):
        return _listed(as_text(labels), reading.classes, np.zeros(labels.shape, dtype=bool))
    ignored = np.isin(labels, reading.ignore)
    if reading.classes is not None:
        return _listed(labels, reading.classes, ignored)
    whole = np.where(ignored, IGNORED, _whole(labels, ignored) - (reading.first or 0))
    return np.asarray(whole, dtype=np.int64)


def _whole(
    labels: Shaped[np.ndarray, "*shape"], ignored: Bool[np.ndarray, "*shape"]
) -> Int64[np.ndarray, "*shape"]:
    """Return labels as int64; raises UsageError for fractions and for what int64 cannot hold."""
    if labels.dtype.kind == "u" and (labels[~ignored] > _LARGEST).any():
        raise UsageError(
            f"labels must be below 2**63, got {labels[~ignored].max()} ([label] array); check which"
            " array holds the labels"
        )
    with np.errstate(invalid="ignore"):  # what does not fit is refused below
        whole = labels.astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(whole[~ignored], labels[~ignored]):
        raise UsageError(
            "labels must be whole numbers, got fractions ([label] array); for targets use read ="
            ' "value" and metric = "rmse"'
        )
    return whole


def _listed(
    labels: Shaped[np.ndarray, "*shape"],
    classes: Sequence[LabelValue] | None,
    ignored: Bool[np.ndarray, "*shape"],
) -> Int64[np.ndarray, "*shape"]:
    """Return the places of labels in a list of classes."""
    kept = labels[~ignored]
    if classes is None:
        raise UsageError(
            f"labels must be numbers, got text such as {str(kept.ravel()[0])!r} ([label] array);"
            " list the classes in the order of the network's scores: [label] classes = [...]"
        )
    places = {value: place for place, value in enumerate(classes)}
    values, inverse = np.unique(kept, return_inverse=True)
    unknown = [value.item() for value in values if value.item() not in places]
    if unknown:
        raise UsageError(
            f"labels must be among the {len(classes)} listed classes, got {unknown[:_SHOWN]}"
            " ([label] classes); list every class in the order of the network's scores, or name"
            " labels that are not to be counted by [label] ignore"
        )
    found = np.full(labels.shape, IGNORED, dtype=np.int64)
    found[~ignored] = np.array([places[value.item()] for value in values], dtype=np.int64)[
        inverse.reshape(-1)
    ]
    return found


def one_hot_axes(labels: Shaped[np.ndarray, "samples *outputs"], axes: Sequence[int]) -> list[int]:
    """Return the axes along which every row has exactly one 1 and else zeros.

    Args:
        labels: In the shape of the output.
        axes: Axes that may hold the classes.

    Raises:
        UsageError: There are other numbers than 0 and 1, or rows with several ones or none along
            every axis; the message names the key for that.
    """
    if is_text(labels) or not np.isin(labels, (0, 1)).all():
        shown = as_text(labels) if is_text(labels) else labels[~np.isin(labels, (0, 1))]
        raise UsageError(
            "labels in the shape of the output must be one-hot, a single 1 among zeros, got"
            f" {shown.ravel()[0].item()!r} ([label] array); give one class a decision instead of"
            ' shares or scores, read numbers by [decision] read = "value", or several labels a'
            ' sample, coded 0 and 1, by read = "threshold"'
        )
    ones = {axis: np.asarray(labels.astype(bool).sum(axis=axis)) for axis in axes}
    found = [axis for axis, count in ones.items() if (count == 1).all()]
    if not found:
        count = min(ones.values(), key=lambda count: int((count != 1).sum()))
        raise UsageError(
            f"labels must have one class a decision, got {int((count != 1).sum())} of {count.size}"
            " rows with several ones or none ([label] array); several labels a sample are read by"
            ' [decision] read = "threshold" with a value, or one value for each label'
        )
    return found


def check_range(
    indices: Int64[np.ndarray, "*shape"], num_classes: int, reading: LabelReading
) -> None:
    """Check that all labels that are counted are classes.

    Raises:
        UsageError: Some are not; the message names the key that fits them, if one does.
    """
    counted = indices.ravel() != IGNORED
    wrong = np.flatnonzero(counted & ((indices.ravel() < 0) | (indices.ravel() >= num_classes)))
    if not wrong.size:
        return
    first = int(wrong[0])
    offset = reading.first or 0
    raise UsageError(
        f"labels must be in {offset}..{offset + num_classes - 1}, got"
        f" {int(indices.ravel()[first]) + offset} at sample {first * len(indices) // indices.size}"
        f" ([label] array); {_remedy(indices.ravel()[counted], num_classes, reading)}"
    )


def _remedy(indices: Int64[np.ndarray, "counted"], num_classes: int, reading: LabelReading) -> str:
    """Return the key that makes labels fit."""
    first = reading.first or 0
    values = np.unique(indices) + first
    if reading.first is None and reading.classes is None:
        if values[0] >= 1 and values[-1] == num_classes:
            return f"where labels count from 1 to {num_classes}, set [label] first = 1"
        if num_classes == 2 and values.tolist() == [-1, 1]:
            return "for labels -1 and 1 set [label] classes = [-1, 1]"
    for value in _USUAL_IGNORED:
        rest = values[values != value]
        if (
            rest.size
            and rest.size < values.size
            and rest[0] >= first
            and rest[-1] < first + num_classes
        ):
            return f"where {value} marks what is not to be counted, set [label] ignore = {value}"
    return (
        "check which output is decided on, or list the labels in the order of the network's scores:"
        " [label] classes = [...]"
    )


def check_folders(reading: LabelReading, num_classes: int) -> None:
    """Check that the classes of an image folder are the network's.

    Their order is then the only thing that is assumed.

    Raises:
        UsageError: There are fewer or more, or the order of their names is not that of their
            numbers.
    """
    if not reading.folders or reading.classes is not None:
        return
    remedy = (
        "list the names of the sub-folders in the order of the network's scores: [label] classes ="
        " [...]"
    )
    if len(reading.folders) != num_classes:
        raise UsageError(
            f"image folder must have a sub-folder for each of {num_classes} classes, got"
            f" {len(reading.folders)}: {printable(reading.folders[:5])} ([label]); {remedy}, or the"
            " folder of one part of the data as file"
        )
    if all(name.isdecimal() for name in reading.folders) and [
        int(name) for name in reading.folders
    ] != sorted(map(int, reading.folders)):
        raise UsageError(
            "sub-folders named by numbers must sort as their numbers do, got"
            f" {', '.join(reading.folders[:3])}, ... ([label]); {remedy}"
        )
