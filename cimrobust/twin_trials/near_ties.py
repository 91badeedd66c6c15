"""How close the decisions of an output are to a tie, and how far two engines differ.

Both are fractions of the largest score of the chip, so that they can be compared: a decision that
is further from a tie than twice the difference of two engines is the same on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Shaped

from cimrobust.data.class_logits import class_logits, have_decision
from cimrobust.data.decision import IGNORED

if TYPE_CHECKING:
    from cimrobust.data.task import Task

# Scores that are looked at together, in float64: 32 MB an array.
_VALUES_AT_ONCE = 2**22


def closeness(
    task: Task, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "samples"]:
    """Return how far the closest decision of every sample is from changing.

    The margin of the label over the best other class (of the k best: over the k-th), as a fraction
    of the largest finite score of the output; 0 where a decision is a tie or there is none.

    Args:
        task: Says how the output is read; it must have scores.
        output: Decision output, samples first.
    """
    scale = largest_score(task, output)
    if scale == 0.0:
        return np.zeros(len(output))
    found = [
        np.abs(_margins(part, _logits(part, chosen))).reshape(len(chosen), -1).min(axis=1)
        for part, (chosen,) in _blocks(task, output)
    ]
    return np.concatenate(found) / scale


def largest_difference(
    task: Task,
    output: Shaped[np.ndarray, "samples *outputs"],
    other: Shaped[np.ndarray, "samples *outputs"],
    *,
    scale: float,
) -> float:
    """Return the largest difference of any score of two outputs, as a fraction of a scale.

    Equal infinities, and NaN in both, do not differ; infinite where just one is not finite.

    Args:
        task: Says how the outputs are read; they must have scores.
        output: Decision output of one engine, samples first.
        other: That of the other engine, of the same shape.
        scale: The largest score of the chip.
    """
    largest = 0.0
    for part, (first, second) in _blocks(task, output, other):
        logits, others = _logits(part, first), _logits(part, second)
        same = (logits == others) | (np.isnan(logits) & np.isnan(others))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(logits - others))
        largest = max(largest, float(np.where(np.isnan(apart), np.inf, apart).max()))
    if largest == 0.0:
        return 0.0
    return largest / scale if scale > 0 else np.inf


def largest_score(task: Task, output: Shaped[np.ndarray, "samples *outputs"]) -> float:
    """Return the largest finite score of an output, without its sign."""
    return max(
        float(np.where(np.isfinite(logits), np.abs(logits), 0.0).max(initial=0.0))
        for logits in (_logits(part, chosen) for part, (chosen,) in _blocks(task, output))
    )


def differing_decisions(
    task: Task,
    output: Shaped[np.ndarray, "samples *outputs"],
    other: Shaped[np.ndarray, "samples *outputs"],
) -> int:
    """Return how many of the decisions that are counted differ between two outputs."""
    return int(((task.decide(output) != task.decide(other)) & task.counted).sum())


def _blocks(
    task: Task, *outputs: Shaped[np.ndarray, "samples *outputs"]
) -> Iterator[tuple[Task, tuple[Shaped[np.ndarray, "some *outputs"], ...]]]:
    """Yield a few samples of some outputs at a time, with the task of these samples."""
    values = max(outputs[0][:1].size, 1)
    step = max(_VALUES_AT_ONCE // values, 1)
    for start in range(0, len(outputs[0]), step):
        chosen = slice(start, start + step)
        part = replace(task, labels=task.labels[chosen])
        yield part, tuple(output[chosen] for output in outputs)


def _logits(
    task: Task, output: Shaped[np.ndarray, "samples *outputs"]
) -> Float64[np.ndarray, "decisions classes"]:
    """Return the scores of every decision, float64 [decisions, classes], the highest best."""
    if task.decision.read == "threshold":
        scores = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
        distance = (scores - task.threshold_of_each()).reshape(-1)
        return np.stack([np.zeros_like(distance), distance], axis=1)
    assert task.axis is not None
    return class_logits(output, task.axis, lowest_wins=task.decision.read == "argmin")


def _margins(
    task: Task, logits: Float64[np.ndarray, "decisions classes"]
) -> Float64[np.ndarray, "decisions"]:
    """Return the margin of every decision; 0 where an output has none, infinite if not counted."""
    labels = task.labels.reshape(-1)
    known = np.where(labels == IGNORED, 0, labels)[:, None]
    own = np.take_along_axis(logits, known, axis=1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, known, -np.inf, axis=1)
    k = min(task.decision.k, logits.shape[1])
    best = np.partition(others, -k, axis=1)[:, -k]
    with np.errstate(invalid="ignore"):
        margins = np.where(own == best, 0.0, own - best)
    return np.where(labels == IGNORED, np.inf, np.where(have_decision(logits), margins, 0.0))
