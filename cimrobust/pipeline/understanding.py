"""How data were understood.

Samples, decisions, labels, the clean score, and a few rows to check by eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cimrobust.data.decision import IGNORED, NO_DECISION, LabelReading
from cimrobust.data.failure import margins_of
from cimrobust.data.findings import check_clean
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.judged_outputs import Judged, judge

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task
    from cimrobust.onnx_io.network import Network

ROWS = 5
#: Classes of the histogram; of more, those with the most labels.
MOST_CLASSES = 20


@dataclass(frozen=True)
class Understanding:
    """Data read for a network, before any weight is stored.

    Attributes:
        judged: Samples, decision output of the model file, and task.
        warnings: What the outputs say against the network or against how they are read.
    """

    judged: Judged
    warnings: tuple[str, ...]

    @property
    def score(self) -> float:
        """Score of the model file."""
        return self.judged.task.score(self.judged.output).value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        dataset, task, output = self.judged.dataset, self.judged.task, self.judged.output
        decision, source = dataset.decision, dataset.source
        score = task.score(output)
        return {
            "description": source.description,
            "files": dict(source.files),
            "samples": {
                "used": dataset.num_samples,
                "available": source.num_available,
                "ignored": source.num_ignored,
            },
            "inputs": [_input(name, array) for name, array in dataset.inputs.items()],
            "constants": [_input(name, array) for name, array in dataset.constants.items()],
            "labels": {
                "source": "self" if dataset.labels is None else dataset.reading.kind,
                "shape": list(task.labels.shape),
                "classes": (
                    None if dataset.reading.classes is None else list(dataset.reading.classes)
                ),
                "first": dataset.reading.first,
                "ignore": list(dataset.reading.ignore),
                "folders": list(dataset.reading.folders),
            },
            "decision": {
                "output": decision.output,
                "shape": list(output.shape),
                "read": decision.read,
                "axis": task.axis,
                "axis_reason": task.axis_reason or None,
                "value": (
                    list(decision.threshold)
                    if isinstance(decision.threshold, tuple)
                    else decision.threshold
                ),
                "k": decision.k if decision.read == "topk" else None,
                "metric": decision.metric,
            },
            "decisions": task.num_decisions if not task.is_regression else int(task.labels.size),
            "decisions_a_sample": task.most_decisions,
            "ignored_decisions": int((~task.counted).sum()),
            "broken": int(task.broken(output).sum()),
            "classes": task.num_classes,
            "histogram": _histogram(task, dataset.reading),
            "clean": {"metric": task.metric, "score": score.value, "correct": score.count},
            "rows": _rows(task, dataset, output),
            "warnings": list(self.warnings),
        }


def understand(network: Network, data: str | Path, *, limit: int | None = None) -> Understanding:
    """Load data for a network, run the model file on them, and fit the labels.

    Args:
        network: The network.
        data: As for `load_data`.
        limit: Use the first so many samples.

    Raises:
        CimrobustError: The data cannot be read, or in more than one way, or the network is broken;
            as for every other run.
    """
    judged = judge(network, load_data(data, inputs=network.inputs, limit=limit))
    return Understanding(judged, check_clean(judged.task, judged.dataset, judged.output))


def _input(name: str, array: Shaped[np.ndarray, "..."]) -> dict[str, Any]:
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "least": float(array.min()) if array.size else None,
        "most": float(array.max()) if array.size else None,
    }


def _histogram(task: Task, reading: LabelReading) -> list[dict[str, Any]] | None:
    """Return how often each class is a label; of many classes the most frequent ones."""
    if task.is_regression or task.num_classes is None:
        return None
    counts = np.bincount(task.labels[task.counted], minlength=task.num_classes)
    order = (
        np.arange(len(counts))
        if len(counts) <= MOST_CLASSES
        else np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    )
    return [
        {
            "class": int(index),
            "label": named(int(index), task, reading),
            "count": int(counts[index]),
        }
        for index in order
    ]


def named(index: int, task: Task, reading: LabelReading) -> str:
    """Return a class as the data call it."""
    if index in (IGNORED, NO_DECISION):
        return "ignored" if index == IGNORED else "none"
    names = reading.classes if reading.classes is not None else reading.folders
    if task.decision.read == "threshold" and not names:
        return str(index)
    return str(names[index]) if index < len(names) else str(index + (reading.first or 0))


def _rows(
    task: Task, dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]
) -> list[dict[str, Any]]:
    """Return the first decisions that are counted: sample and place, label, decision, margin.

    For a regression target, value, error.
    """
    counted = np.flatnonzero(task.counted.reshape(-1))[:ROWS]
    places = np.unravel_index(counted, task.labels.shape)
    cells: list[tuple[Any, ...]]
    if task.is_regression:
        values = np.asarray(output, dtype=np.float64).reshape(-1)
        targets = task.labels.reshape(-1)
        cells = [
            (float(targets[place]), float(values[place]), float(values[place] - targets[place]))
            for place in counted
        ]
    else:
        margins = None if task.decision.read == "label" else margins_of(task, output)
        decided, labels = task.decide(output).reshape(-1), task.labels.reshape(-1)
        cells = [
            (
                named(int(labels[place]), task, dataset.reading),
                named(int(decided[place]), task, dataset.reading),
                (
                    None
                    if margins is None or not np.isfinite(margins[number])
                    else float(margins[number])
                ),
            )
            for number, place in enumerate(counted)
        ]
    keys = ("target", "value", "error") if task.is_regression else ("label", "decision", "margin")
    return [
        {
            "sample": int(places[0][number]),
            "place": [int(axis[number]) for axis in places[1:]],
            **dict(zip(keys, cell, strict=True)),
        }
        for number, cell in enumerate(cells)
    ]
