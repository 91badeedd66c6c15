"""What the outputs of the clean network say against it or against how they are read.

It is what they say before anything deviates.

A network that is broken is not one that is fragile: its outputs are refused, or counted and named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Shaped

from cimrobust.binomial import at_least
from cimrobust.data.copied_samples import num_distinct
from cimrobust.data.decision import IGNORED
from cimrobust.errors import ModelNotCoveredError, UsageError

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task

# Labels that are one too high by chance: how unlikely that must be before they are refused.
_CHANCE = 1e-3
# Fewer decisions may well be the same.
_FEWEST_DECISIONS = 10
# Steps that scale numbers.
_ARITHMETIC = frozenset({"subtract", "multiply", "divide"})
# Copies of samples that are passed over: so many, and this share of the samples.
_FEW_COPIES, _COPIED_SHARE = 9, 0.1


def check_clean(
    task: Task, dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]
) -> tuple[str, ...]:
    """Look at the decision output of the clean network on all samples.

    Args:
        task: Reads and scores it.
        dataset: Samples and labels.
        output: The output.

    Returns:
        Warnings, one sentence each.

    Raises:
        ModelNotCoveredError: No sample has a decision.
        UsageError: Labels fit far better if they count from 1.
    """
    found = [_broken(task, output), *_shifted(task, dataset, output), *_constant(task, output)]
    found += [_at_chance(task, dataset, output), _copied(dataset)]
    if task.axis_reason:
        found.append(
            f"The classes are taken to lie along axis {task.axis} of the decision output, that of"
            f" {task.axis_reason}: no description says so."
        )
    return tuple(text for text in found if text)


def _broken(task: Task, output: Shaped[np.ndarray, "samples *outputs"]) -> str:
    broken = task.broken(output)
    count, total = int(broken.sum()), int(task.counted.sum())
    if not count:
        return ""
    what = "values" if task.is_regression else "decisions"
    kinds = _kinds(task, output, broken)
    if count == total:
        raise ModelNotCoveredError(
            f"model must give scores that decide, got {kinds} in all {total} {what} without any"
            " deviation (decision output); a broken network is not a fragile one: export it again,"
            " or check the preprocessing of the samples"
        )
    wrong = "the error is infinite" if task.is_regression else "they count as wrong"
    return (
        f"{count} of {total} {what} of the model file itself, without any deviation, are {kinds}:"
        f" {wrong}, and say nothing about devices."
    )


def _kinds(
    task: Task,
    output: Shaped[np.ndarray, "samples *outputs"],
    broken: Bool[np.ndarray, "samples *positions"],
) -> str:
    """Return what is wrong with the outputs of broken decisions."""
    if task.decision.read == "label":
        return "no known class"
    values = np.asarray(output, dtype=np.float64)
    rows = values[..., None] if task.axis is None else np.moveaxis(values, task.axis, -1)
    rows = rows.reshape(-1, rows.shape[-1])[broken.reshape(-1)]
    is_nan = np.isnan(rows).any(axis=1)
    infinite = np.isinf(rows).any(axis=1) & ~is_nan
    parts = [(int(is_nan.sum()), "NaN"), (int(infinite.sum()), "infinite")]
    return " and ".join(f"{name} ({count})" for count, name in parts if count)


def _shifted(
    task: Task, dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]
) -> list[str]:
    """Compare with the reading in which labels count from 1."""
    reading = dataset.reading
    if (
        dataset.labels is None
        or not task.decision.chooses
        or reading.kind != "given"
        or reading.folders
    ):
        return []
    if reading.first is not None or reading.classes is not None:
        return []
    counted = task.labels[task.labels != IGNORED]
    if counted.min() < 1:
        return []
    decided = task.decide(output)[task.labels != IGNORED]
    as_given, one_lower = int((decided == counted).sum()), int((decided == counted - 1).sum())
    if one_lower <= as_given:
        return []
    sentence = (
        f"no label is 0, and {one_lower} of {counted.size} decisions equal the label less 1, where"
        f" {as_given} equal the label"
    )
    if at_least(one_lower, one_lower + as_given, 0.5) < _CHANCE:
        raise UsageError(
            "labels must count the classes from 0 unless said otherwise, got labels that seem to"
            f" count from 1: {sentence} ([label] array); set [label] first = 1, or first = 0 where"
            " they are right as they are"
        )
    return [
        f"Labels are read as counting from 0; {sentence}. If they count from 1, set [label] first"
        " = 1."
    ]


def _at_chance(task: Task, dataset: DataSet, output: Shaped[np.ndarray, "samples *outputs"]) -> str:
    """Name a clean network that is right no more often than one class as the answer to all."""
    if dataset.labels is None or not (task.decision.chooses or task.decision.read == "label"):
        return ""
    counted = task.labels != IGNORED
    classes, numbers = np.unique(task.labels[counted], return_counts=True)
    if dataset.reading.kind != "given" or len(classes) < 2 or counted.sum() < _FEWEST_DECISIONS:
        return ""
    correct, most = task.score(output).count, int(numbers.max())
    if correct is None or correct > most:
        return ""
    raw = [
        f" Input '{name}' gets whole numbers as they are stored, and no step scales them."
        for name in dataset.inputs
        if _is_raw(name, dataset)
    ]
    return (
        f"The model file itself is right in {correct} of {int(counted.sum())} decisions, and the"
        f" answer {int(classes[numbers.argmax()])} for all would be in {most}: check preprocessing,"
        f" labels and the order of the classes before anything is said of devices.{''.join(raw)}"
    )


def _is_raw(name: str, dataset: DataSet) -> bool:
    """Tell whether a graph takes reals where it is given whole numbers that no step scaled."""
    array, steps = dataset.inputs[name], dataset.source.steps.get(name, ())
    if array.dtype.kind != "f" or any(step["op"] in _ARITHMETIC for step in steps):
        return False
    return bool(array.size and array.max() > 1 and np.array_equal(array, np.rint(array)))


def _copied(dataset: DataSet) -> str:
    """Name copies of samples: they add to the count that intervals rest on, and tell nothing."""
    count = dataset.num_samples
    enough = count - max(_FEW_COPIES, int(_COPIED_SHARE * count))
    distinct = num_distinct(dataset.inputs.values(), enough=enough)
    if distinct >= enough:
        return ""
    return (
        f"{count - distinct} of {count} samples are copies of others. Intervals for samples not"
        f" seen count all {count} as independent, and are too narrow where copies were added on"
        " purpose."
    )


def _constant(task: Task, output: Shaped[np.ndarray, "samples *outputs"]) -> list[str]:
    """Name an output that does not depend on the sample, or decisions that are all the same."""
    if len(output) < 2:
        return []
    first = output[:1]
    same = np.asarray(output == first)
    if output.dtype.kind == "f":
        same |= np.isnan(output) & np.isnan(first)
    if same.all():
        return [
            f"The decision output is the same for all {len(output)} samples: the network does not"
            " look at them, or all were prepared to the same values."
        ]
    if task.is_regression or task.num_decisions < _FEWEST_DECISIONS:
        return []
    decided, labels = (
        np.unique(task.decide(output)[task.counted]),
        np.unique(task.labels[task.counted]),
    )
    if decided.size > 1:
        return []
    own = "" if labels.size == 1 else f", where labels are of {labels.size} classes"
    return [
        f"All {task.num_decisions} decisions of the model file itself are the same, class"
        f" {int(decided[0])}{own}."
    ]
