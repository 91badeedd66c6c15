"""Which readings of labels and output fit each other, and which of them is written down.

The readings are tried on a few samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.class_axis import AxisHint
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.data.findings import check_clean
from cimrobust.data.fitted_task import make_task
from cimrobust.data.labels import as_text, is_counted, is_text
from cimrobust.errors import CimrobustError, UsageError
from cimrobust.onnx_io.output_axis import output_axis

if TYPE_CHECKING:
    from cimrobust.array_shapes import Real, Shaped
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task
    from cimrobust.onnx_io.network import Network

_IGNORED = (255, -1, -100)
# By how much the lowest score has to decide better than the highest before it is taken to decide.
_CLEARLY = 0.2
# How far the sum of shares may be from 1: three digits of each are rounded.
_ROUNDED = 5e-3


@dataclass(frozen=True)
class Reading:
    """A reading that fits.

    Attributes:
        output: Decision output.
        decision: How it is read.
        labels: How labels are coded.
        score: Clean score on the samples tried.
        quality: The same, higher better.
        notes: What is uncertain, by table of the description.
    """

    output: str
    decision: Decision
    labels: LabelReading
    score: float
    quality: float
    notes: Mapping[str, Sequence[str]]


def best_reading(
    network: Network,
    dataset: DataSet,
    labels: Shaped[np.ndarray, "samples ..."] | None,
    folders: tuple[str, ...],
    output: str,
    values: Shaped[np.ndarray, "samples *outputs"],
) -> Reading:
    """Return the reading that needs the fewest keys.

    Of those with as many, it is the one with the best clean score.

    Args:
        network: The network.
        dataset: Samples; with stored outputs, those are the labels.
        labels: Labels as stored; None: there are none.
        folders: Names of the sub-folders that labels count.
        output: Name of the decision output.
        values: Decision output of the model file.

    Raises:
        UsageError: None fits; says what the plainest is refused for. Or labels are shares of
            classes, which fit two readings.
    """
    shown = output_axis(network.model, output)
    hint = None if shown is None else AxisHint(*shown)
    base = replace(
        dataset,
        labels=dataset.labels if dataset.stored else labels,
        reading=replace(dataset.reading, folders=folders),
    )
    if dataset.stored:
        names = [spec.name for spec in network.outputs]
        base = base.for_output(output, names.index(output))
    fitting: list[tuple[int, float, float, Decision, LabelReading]] = []
    problem = ""
    for decision in _decisions(values, hint, base):
        for reading in _label_codes(base, values.shape[1:]):
            try:
                task, score = _tried(replace(base, decision=decision, reading=reading), values)
            except CimrobustError as err:
                problem = problem or str(err)
                continue
            quality = score if task.higher_is_better else -score
            fitting.append((_num_keys(decision, reading), score, quality, decision, reading))
    if not fitting:
        raise UsageError(problem)
    fewest = [entry for entry in fitting if entry[0] == min(entry[0] for entry in fitting)]
    _, score, quality, decision, reading = max(fewest, key=lambda entry: entry[2])
    if decision.read == "value" and _are_shares(base.labels, values.shape):
        raise UsageError(
            "labels must be classes or numbers, got rows that sum to 1, which may be shares of"
            " classes ([label] array); give the class of the largest share as the label, or read"
            ' them as numbers: [decision] read = "value", metric = "rmse"'
        )
    notes = _notes(decision, reading, fewest, values, hint, base)
    if decision.read == "argmax" and base.labels is not None:
        lowest = replace(decision, read="argmin")
        _, turned = _tried(replace(base, decision=lowest, reading=reading), values)
        if turned > score + _CLEARLY:
            notes["decision"].append(
                f"The lowest score is taken to decide: so the clean score is {turned:.4g}, with the"
                f" highest {score:.4g}. Check it."
            )
            return Reading(output, lowest, reading, turned, turned, notes)
    return Reading(output, decision, reading, score, quality, notes)


def _are_shares(labels: Shaped[np.ndarray, "samples ..."] | None, shape: tuple[int, ...]) -> bool:
    """Tell whether labels are as many as the outputs, and shares of them: soft labels."""
    if labels is None or labels.dtype.kind != "f" or labels.shape != shape or labels.ndim < 2:
        return False
    if not (labels >= 0).all():
        return False
    wide = [axis for axis in range(1, labels.ndim) if shape[axis] > 1]
    return any(bool(np.abs(labels.sum(axis=axis) - 1).max() < _ROUNDED) for axis in wide)


def _tried(dataset: DataSet, values: Shaped[np.ndarray, "samples *outputs"]) -> tuple[Task, float]:
    """Return the task of a reading and its clean score.

    Raises what `make_task` and `check_clean` do.
    """
    counted = (
        np.ones(len(values), dtype=bool)
        if dataset.labels is None
        else is_counted(dataset.labels, dataset.reading.ignore)
    )
    part, output = dataset.part(np.flatnonzero(counted)), values[counted]
    task = make_task(part, output)
    check_clean(task, part, output)
    return task, task.score(output).value


def _num_keys(decision: Decision, reading: LabelReading) -> int:
    """Return how much a reading asks for beyond the plainest.

    Values in place of decisions count most.
    """
    coded = (reading.classes is not None) + (reading.first is not None) + bool(reading.ignore)
    return (
        coded
        + (decision.axis is not None)
        + {"argmax": 0, "threshold": 1, "label": 1}.get(decision.read, 4)
    )


def _decisions(
    values: Shaped[np.ndarray, "samples *outputs"], hint: AxisHint | None, dataset: DataSet
) -> Iterator[Decision]:
    """Yield decisions that an output may be read by, the plainest first."""
    if is_text(values) or values.dtype.kind in "iu":
        yield Decision(read="label")
    if is_text(values):
        return
    yield Decision()
    wide = [axis for axis in range(1, values.ndim) if values.shape[axis] > 1]
    if len(wide) > 1:
        told = hint is not None and hint.axis in wide and dataset.labels is None
        yield from (
            Decision(axis=axis) for axis in ([hint.axis] if told and hint is not None else wide)
        )
    low, high = _ends(values)
    is_share = low >= 0.0 and high <= 1.0
    yield Decision(read="threshold", threshold=0.5 if is_share else 0.0)
    yield Decision(read="value", metric="rmse")


def _ends(values: Real[np.ndarray, "..."]) -> tuple[float, float]:
    """Return the smallest and the largest number that is finite; 0 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _label_codes(dataset: DataSet, sizes: Sequence[int]) -> Iterator[LabelReading]:
    """Yield codings that labels may have, the plainest first.

    Labels that do not count from 0 are listed where they are as many as an axis of the output has
    places, of which `sizes` are the lengths.
    """
    labels, plain = dataset.labels, dataset.reading
    if labels is not None and is_text(labels):
        yield replace(plain, classes=tuple(np.unique(as_text(labels)).tolist()))
        return
    yield plain
    if labels is None or plain.kind == "stored" or labels.dtype.kind == "f":
        return
    yield replace(plain, first=1)
    present = np.unique(labels)
    if np.isin(present, (-1, 1)).all():
        yield replace(plain, classes=(-1, 1))
    elif len(present) > 1 and len(present) in sizes and present[-1] != len(present) - 1:
        yield replace(plain, classes=tuple(present.tolist()))
    for value in _IGNORED:
        if value in present:
            yield replace(plain, ignore=(value,))


def _notes(
    decision: Decision,
    reading: LabelReading,
    fewest: Sequence[tuple[int, float, float, Decision, LabelReading]],
    values: Shaped[np.ndarray, "samples *outputs"],
    hint: AxisHint | None,
    dataset: DataSet,
) -> dict[str, list[str]]:
    """Return what is uncertain about the reading chosen."""
    about = [f"Output of shape {list(values.shape)} for the samples tried."]
    if decision.axis is not None:
        others = [
            f"axis {entry[3].axis} {entry[1]:.4g}"
            for entry in fewest
            if entry[3].axis not in (None, decision.axis)
        ]
        why = (
            f"{hint.reason} puts its outputs along axis {hint.axis}"
            if hint is not None
            else "nothing in the graph says which"
        )
        about.append(
            f"Several axes may hold the classes: {why}. Check the axis."
            + (f" Clean scores of others: {', '.join(others)}." if others else "")
        )
    if decision.read == "threshold":
        low, high = _ends(values)
        about.append(
            f"The threshold could not be told; outputs go from {low:.4g} to {high:.4g}. Several"
            " labels a sample may have a value each: value = [...]."
        )
    if decision.read == "value" and dataset.labels is None:
        about.append(
            'The output is read as values; if it is the score of a class, write read = "threshold"'
            " and value."
        )
    coded: list[str] = []
    if reading.classes is not None:
        order = "of the alphabet" if isinstance(reading.classes[0], str) else "of the numbers"
        coded.append(
            "Which score of the network belongs to which label could not be told; the order is"
            f" that {order}. Check it, and add classes that these samples lack."
        )
    if reading.ignore:
        coded.append(
            f"{reading.ignore[0]} is no class, so such labels are taken not to be counted."
        )
    if reading.first is not None:
        coded.append("Labels count from 1: they fit so and not from 0.")
    return {"decision": about, "label": coded}
