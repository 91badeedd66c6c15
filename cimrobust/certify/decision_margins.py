"""What has to be proven of the scores for a decision to be right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from cimrobust.certify.refusal import NotBoundedError
from cimrobust.certify.rules.rule_table import MOVES
from cimrobust.twin.label_choice import choice_of

if TYPE_CHECKING:
    from cimrobust.data.task import Task
    from cimrobust.twin.ops.converter_registry import Node
    from cimrobust.twin.to_torch import Twin

# Axes of one row of scores a sample.
_A_ROW = 2
# Version from which on Softmax is taken over one axis, not over all from one on.
_ONE_AXIS = 13
_SAME = frozenset({"Identity", "Dropout"})
# Most classes whose indices every type holds.
_FIT_EVERY_TYPE = 100
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
        axis: Class axis of the tensor, the sample axis counted; of ``classes``.
        thresholds: A decision is 1 where its value is greater; one for each decision of a sample,
            of ``threshold``.
        needed: By how much a margin has to be positive.
        needed_share: The same as a share of the largest magnitude of a score.
        most_ahead: Forms that may fail: classes that may be ahead of the label.
        most_apart: Largest difference of two scores up to which all are told apart.
    """

    tensor: str
    kind: Literal["classes", "threshold", "value"]
    sign: float = 1.0
    axis: int = 1
    thresholds: tuple[float, ...] = (0.0,)
    needed: float = 0.0
    needed_share: float = 0.0
    most_ahead: int = 0
    most_apart: float = math.inf

    def forms(
        self,
        labels: Int64[Tensor, "decisions"],
        shape: torch.Size,
        positions: Int64[Tensor, "decisions"] | None = None,
    ) -> tuple[Float64[Tensor, "forms decisions *outputs"], Float64[Tensor, "forms decisions"]]:
        """Return linear forms on the tensor and offsets.

        A decision is right if every form plus offset, `most_ahead` excepted, is greater than what
        is needed.

        Args:
            labels: Labels of the decisions, int64 [decisions].
            shape: The tensor's shape, its first axis that of the decisions.
            positions: Which of the decisions of its sample each is; None: the only one.

        Returns:
            [forms, decisions, ...] and [forms, decisions].
        """
        count, size = len(labels), math.prod(shape[1:])
        place = torch.zeros_like(labels) if positions is None else positions
        if self.kind == "threshold":
            side = torch.where(labels > 0, 1.0, -1.0).to(torch.float64)
            form = torch.zeros(1, count, size, dtype=torch.float64)
            form.scatter_(2, place[None, :, None], side[None, :, None])
            thresholds = torch.tensor(self.thresholds, dtype=torch.float64)
            return form.reshape(1, *shape), (-side * thresholds[place])[None]
        num_classes = shape[self.axis]
        # Where the scores of each decision lie among all of a sample, [decisions, classes].
        scores = torch.arange(size).reshape(shape[1:]).movedim(self.axis - 1, -1)
        own = scores.reshape(-1, num_classes)[place]
        others = torch.arange(num_classes - 1)[:, None].expand(-1, count)
        others = others + (others >= labels)
        form = torch.zeros(num_classes - 1, count, size, dtype=torch.float64)
        form.scatter_(2, own.gather(1, others.T).T[..., None], -self.sign)
        right = own.gather(1, labels[:, None])[None].expand(num_classes - 1, -1, 1)
        form.scatter_(2, right, self.sign)
        return form.reshape(num_classes - 1, *shape), torch.zeros(
            num_classes - 1, count, dtype=torch.float64
        )

    def num_forms(self, shape: torch.Size) -> int:
        """Return how many forms a decision has."""
        return max(1, shape[self.axis] - 1) if self.kind == "classes" else 1


def reading_of(twin: Twin, task: Task, output: str, shapes: Callable[[str], torch.Size]) -> Reading:
    """Return how the decisions of a task are read, as early in the graph as they are the same.

    Args:
        twin: The network.
        task: Its decisions.
        output: Name of the decision output.
        shapes: Given a tensor, its shape, samples first.

    Raises:
        NotBoundedError: The decision is not one of scores.
    """
    read = task.decision.read
    if read == "value":
        return Reading(output, "value")
    if read == "label":
        return _before_choice(twin, task, output, shapes)
    shape = shapes(output)
    if read == "threshold":
        return _before_sigmoid(
            twin, Reading(output, "threshold", thresholds=tuple(task.threshold_of_each().tolist()))
        )
    assert task.axis is not None
    found = Reading(
        output,
        "classes",
        sign=-1.0 if read == "argmin" else 1.0,
        axis=task.axis % len(shape),
        most_ahead=task.decision.k - 1,
    )
    return _before_softmax(twin, found, len(shape))


def _before_choice(
    twin: Twin, task: Task, output: str, shapes: Callable[[str], torch.Size]
) -> Reading:
    """Return the reading of the scores that ArgMax or ArgMin choose the labels of an output by.

    Raises:
        NotBoundedError: Labels are not indices of scores, or some have none.
    """
    choice = choice_of(twin, output)
    if choice is None and _is_of_several(twin, output):
        raise NotBoundedError(
            "the labels of the decision output are several that a TopK chooses; bounds follow the"
            " best one alone"
        )
    if choice is None or task.classes is not None:
        raise NotBoundedError(
            "the decision output holds labels, not the scores that they are chosen by"
        )
    shape = shapes(choice.scores)
    axis, most = choice.axis % len(shape), int(task.labels.max())
    is_narrow = choice.is_cast and shape[axis] > _FIT_EVERY_TYPE
    if axis == 0 or most >= shape[axis] or is_narrow:
        raise NotBoundedError(
            f"the labels of the decision output are chosen along axis {axis} of scores of shape"
            f" {list(shape)}, and go up to {most}"
        )
    found = Reading(choice.scores, "classes", sign=choice.sign, axis=axis)
    return _before_softmax(twin, found, len(shape))


def _is_of_several(twin: Twin, output: str) -> bool:
    """Return whether an output is the choice of a TopK, perhaps moved."""
    node = twin.node_of(output)
    while node is not None and node.op in ("Cast", *MOVES) and node.inputs:
        node = twin.node_of(node.inputs[0])
    return node is not None and node.op == "TopK"


def _before_softmax(twin: Twin, reading: Reading, rank: int) -> Reading:
    """Return a reading in front of normalisations of its classes, which keep their order.

    Args:
        twin: The network.
        reading: Of classes.
        rank: Axes of its tensor.
    """
    while (source := twin.source_of(reading.tensor)) is not None:
        op, inputs = source
        if rank > _A_ROW and op in ("Softmax", "LogSoftmax"):
            node = twin.node_of(reading.tensor)
            if node is None or not _is_over_classes(node, reading, rank):
                break
        # Of two, the outer one would need more: behind the inner one, scores of many classes
        # differ by less than float32 tells apart.
        if op in ("Softmax", "LogSoftmax") and not reading.needed:
            # A label that others may be ahead of, or that the lowest score decides, need not be
            # near the largest score.
            may_be_far = reading.most_ahead > 0 or reading.sign < 0
            apart = _MOST_APART if op == "Softmax" and may_be_far else math.inf
            reading = replace(
                reading, needed=_SOFTMAX_LEAST, needed_share=_SOFTMAX_SHARE, most_apart=apart
            )
        elif op not in _SAME:
            break
        reading = replace(reading, tensor=inputs[0])
    return reading


def _is_over_classes(node: Node, reading: Reading, rank: int) -> bool:
    """Return whether a Softmax is taken over the axis of the classes and nothing else."""
    flattens = node.version < _ONE_AXIS
    axis = int(node.get("axis", 1 if flattens else -1)) % rank
    return axis == reading.axis and (not flattens or axis == rank - 1)


def _before_sigmoid(twin: Twin, reading: Reading) -> Reading:
    while (source := twin.source_of(reading.tensor)) is not None:
        op, inputs = source
        if op == "Sigmoid" and all(0.0 < threshold < 1.0 for threshold in reading.thresholds):
            # Derived here. s > t exactly where x > ln(t / (1 - t)), and there s' = t (1 - t). As
            # |s''| = s' |1 - 2 s| <= s', at distance d s' is at least t (1 - t) exp(-d), so s rises
            # by at least t (1 - t) (1 - exp(-d)) >= t (1 - t) d / 2 for d <= 1. It has to rise by
            # its own error and by what the sigmoid behind it needs, if there is one.
            rise = min(threshold * (1.0 - threshold) for threshold in reading.thresholds)
            needed = 2.0 * (reading.needed + _SIGMOID_ERROR) / rise
            if needed > 1.0:
                break
            reading = replace(
                reading,
                thresholds=tuple(math.log(t / (1.0 - t)) for t in reading.thresholds),
                needed=needed,
            )
        elif op not in _SAME or op == "Sigmoid":
            break
        reading = replace(reading, tensor=inputs[0])
    return reading
