"""What has to be proven of the scores for a decision to be right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from cimrobust.certify.refusal import NotBoundedError
from cimrobust.data.task import Task
from cimrobust.twin.to_torch import Twin

_SAME = frozenset({"Identity", "Dropout"})
# Softmax is computed in float32: scores that differ by less than this, or than this share of their
# magnitude, may come out equal or, with the errors of an exponential of a few units in the last
# place, in the wrong order. Sixteen times what a good exponential needs.
_SOFTMAX_SHARE = 2.0**-19
_SOFTMAX_LEAST = 2.0**-16
_SIGMOID_ERROR = 2.0**-19
# Scores of a softmax further below the largest may be zero in float32, one like another: exp(-64)
# is 1.6e-28, and there is room for a sum over many classes above the smallest normal float32.
_MOST_APART = 64.0


@dataclass(frozen=True)
class Reading:
    """How decisions are read from a tensor of the graph.

    Attributes:
        tensor: Name of the tensor.
        kind: ``classes``, ``threshold`` or ``value``.
        sign: -1 where the lowest score is the best.
        threshold: The decision is 1 where the value is greater.
        needed: By how much a margin has to be positive.
        needed_share: The same as a share of the largest magnitude of a score.
        most_ahead: Forms that may fail: classes that may be ahead of the label.
        most_apart: Largest difference of two scores up to which all are told apart.
    """

    tensor: str
    kind: Literal["classes", "threshold", "value"]
    sign: float = 1.0
    threshold: float = 0.0
    needed: float = 0.0
    needed_share: float = 0.0
    most_ahead: int = 0
    most_apart: float = math.inf

    def forms(
        self, labels: Int64[Tensor, "samples"], shape: torch.Size
    ) -> tuple[Float64[Tensor, "forms samples *outputs"], Float64[Tensor, "forms samples"]]:
        """Return linear forms on the tensor and offsets.

        A decision is right if every form plus offset, `most_ahead` excepted, is greater than what
        is needed.

        Args:
            labels: Labels of the samples, int64 [samples].
            shape: The tensor's shape, samples first.

        Returns:
            [forms, samples, ...] and [forms, samples].
        """
        count = len(labels)
        if self.kind == "threshold":
            side = torch.where(labels > 0, 1.0, -1.0).to(torch.float64)
            return (
                side.reshape(1, count, *(1,) * (len(shape) - 1)).expand(1, *shape).clone(),
                (-side * self.threshold)[None],
            )
        num_classes = math.prod(shape[1:])
        others = torch.arange(num_classes - 1)[:, None].expand(-1, count)
        others = others + (others >= labels)
        form = torch.zeros(num_classes - 1, count, num_classes, dtype=torch.float64)
        form.scatter_(2, others[..., None], -self.sign)
        form.scatter_(2, labels[None, :, None].expand(num_classes - 1, -1, 1), self.sign)
        return form.reshape(num_classes - 1, *shape), torch.zeros(
            num_classes - 1, count, dtype=torch.float64
        )


def reading_of(twin: Twin, task: Task, output: str, shape: torch.Size) -> Reading:
    """Return how the decisions of a task are read, as early in the graph as they are the same.

    Args:
        twin: The network.
        task: Its decisions.
        output: Name of the decision output.
        shape: Its shape, samples first.

    Raises:
        NotBoundedError: The decision is not one of scores, or there are several a sample.
    """
    read = task.decision.read
    if read == "value":
        return Reading(output, "value")
    if task.labels.size != task.labels.shape[0]:
        raise NotBoundedError(f"a sample must have one decision, got {task.labels[0].size}")
    if read == "label":
        raise NotBoundedError(
            "the decision output holds labels, not the scores that they are chosen by"
        )
    if read == "threshold":
        return _before_sigmoid(
            twin, Reading(output, "threshold", threshold=float(task.threshold_of_each()[0]))
        )
    found = Reading(
        output, "classes", sign=-1.0 if read == "argmin" else 1.0, most_ahead=task.decision.k - 1
    )
    return _before_softmax(twin, found) if len(shape) == 2 else found


def _before_softmax(twin: Twin, reading: Reading) -> Reading:
    while (source := twin.source_of(reading.tensor)) is not None:
        op, inputs = source
        # Of two, the outer one would need more: behind the inner one, scores of many classes
        # differ by less than float32 tells apart.
        if op in ("Softmax", "LogSoftmax") and not reading.needed:
            # A label that others may be ahead of need not be near the largest score.
            apart = _MOST_APART if op == "Softmax" and reading.most_ahead else math.inf
            reading = replace(
                reading, needed=_SOFTMAX_LEAST, needed_share=_SOFTMAX_SHARE, most_apart=apart
            )
        elif op not in _SAME:
            break
        reading = replace(reading, tensor=inputs[0])
    return reading


def _before_sigmoid(twin: Twin, reading: Reading) -> Reading:
    while (source := twin.source_of(reading.tensor)) is not None:
        op, inputs = source
        if op == "Sigmoid" and 0.0 < reading.threshold < 1.0:
            # Derived here. s > t exactly where x > ln(t / (1 - t)), and there s' = t (1 - t). As
            # |s''| = s' |1 - 2 s| <= s', at distance d s' is at least t (1 - t) exp(-d), so s rises
            # by at least t (1 - t) (1 - exp(-d)) >= t (1 - t) d / 2 for d <= 1. It has to rise by
            # its own error and by what the sigmoid behind it needs, if there is one.
            rise = reading.threshold * (1.0 - reading.threshold)
            needed = 2.0 * (reading.needed + _SIGMOID_ERROR) / rise
            if needed > 1.0:
                break
            reading = replace(
                reading,
                threshold=math.log(reading.threshold / (1.0 - reading.threshold)),
                needed=needed,
            )
        elif op not in _SAME or op == "Sigmoid":
            break
        reading = replace(reading, tensor=inputs[0])
    return reading
