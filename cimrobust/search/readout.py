"""From an output to logits that losses understand, and back over operators that hide gradients.

ArgMax, Softmax, Sigmoid.

The *logits* of a decision are its scores, the highest best, label by index; for a threshold 0 and
the distance to the threshold; for a regression the one value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Real, Shaped
from torch import Tensor

from cimrobust.data.class_logits import have_decision
from cimrobust.data.decision import NO_DECISION
from cimrobust.twin.label_choice import choice_of

if TYPE_CHECKING:
    from cimrobust.data.task import Task
    from cimrobust.twin.to_torch import Twin

_SAME_ELEMENTS = frozenset(
    {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Dropout"}
)
# Comparisons of two tensors, and whether they hold where the first is greater or smaller.
_COMPARISONS = {"Greater": 1.0, "GreaterOrEqual": 1.0, "Less": -1.0, "LessOrEqual": -1.0}
# Rising functions, one value at a time or over the classes; those that are flat somewhere are not
# among them.
_SAME_ORDER_OF_CLASSES = frozenset(
    {
        "Softmax",
        "LogSoftmax",
        "Sigmoid",
        "Tanh",
        "Log",
        "Exp",
        "Sqrt",
        "Softplus",
        "Softsign",
        "Erf",
        "Atan",
    }
)


@dataclass(frozen=True)
class Readout:
    """How logits are read from a tensor of the graph.

    Attributes:
        tensor: Name of the tensor.
        kind: ``classes``, ``threshold`` or ``value``.
        axis: Class axis, samples counted; -1 where the classes are all that a decision has.
        sign: -1 where the lowest score is the best, or the decision 1 where the value is smaller.
        threshold: Decision is 1 where the value is greater; one for each decision of a sample, or
            one for all.
    """

    tensor: str
    kind: Literal["classes", "threshold", "value"]
    axis: int = -1
    sign: float = 1.0
    threshold: tuple[float, ...] = (0.0,)

    def logits(self, output: Shaped[Tensor, "samples ..."]) -> Float[Tensor, "decisions classes"]:
        """Return [decisions, classes] (``value``: [values, 1]) of a tensor, samples first."""
        if self.kind == "value":
            return output.reshape(-1, 1)
        if self.kind == "threshold":
            values = output if output.is_floating_point() else output.float()
            apart = values.reshape(-1, len(self.threshold)) - values.new_tensor(self.threshold)
            distance = self.sign * apart.reshape(-1)
            return torch.stack([torch.zeros_like(distance), distance], dim=1)
        return self.sign * output.movedim(self.axis, -1).reshape(-1, output.shape[self.axis])


def task_readout(task: Task, tensor: str) -> Readout | None:
    """Return the readout of the decision output itself; None where the output is the decision."""
    decision = task.decision
    if decision.read == "value":
        return Readout(tensor, "value")
    if decision.read == "threshold":
        return Readout(tensor, "threshold", threshold=_shortest(task.threshold_of_each()))
    if decision.read == "label" or task.axis is None:
        return None
    return Readout(
        tensor, "classes", axis=task.axis, sign=-1.0 if decision.read == "argmin" else 1.0
    )


def _shortest(thresholds: Float64[np.ndarray, "decisions"]) -> tuple[float, ...]:
    """Return thresholds as numbers: one where all are the same."""
    return tuple(thresholds.tolist()) if len(np.unique(thresholds)) > 1 else (float(thresholds[0]),)


def possible_readouts(twin: Twin, task: Task, output: str) -> Iterator[Readout]:
    """Yield readouts with useful gradients, the most useful first.

    Whether one decides as the output does has to be tried.

    What keeps the order of classes and may saturate (a Softmax, a Sigmoid, a logarithm, one number
    as factor) is stepped over at the end, and so is an ArgMax, an ArgMin or a TopK of one whose
    result is the decision.
    """
    first = task_readout(task, output)
    found = [] if first is None else [first]
    if first is not None and first.kind != "value":
        found += _before(twin, first)
    if first is None:
        found += _before_choice(twin, output) or _before_comparison(twin, output)
    yield from reversed(found)


def _before(twin: Twin, readout: Readout) -> list[Readout]:
    """Return readouts of the tensors before, as long as the decision is the same there."""
    found: list[Readout] = []
    while True:
        source = twin.source_of(readout.tensor)
        if source is None or not source[1]:
            return found
        op, inputs = source
        carried = _scaled_by_number(twin, op, inputs) if readout.kind == "classes" else ""
        if carried:
            readout = replace(readout, tensor=carried)
        elif (
            op in _SAME_ELEMENTS
            and (readout.kind == "threshold" or op in ("Identity", "Cast", "Dropout"))
        ) or (readout.kind == "classes" and op in _SAME_ORDER_OF_CLASSES):
            readout = replace(readout, tensor=inputs[0])
        elif (compared := _compared(twin, readout, op, inputs)) is not None:
            readout = compared
        elif (
            readout.kind == "threshold"
            and op == "Sigmoid"
            and all(0.0 < value < 1.0 for value in readout.threshold)
        ):
            readout = replace(
                readout,
                tensor=inputs[0],
                threshold=tuple(math.log(value / (1.0 - value)) for value in readout.threshold),
            )
        else:
            return found
        if readout.tensor not in twin.tensor_names:
            return found
        found.append(readout)


def _compared(twin: Twin, readout: Readout, op: str, inputs: tuple[str, ...]) -> Readout | None:
    """Return the readout of what a node compares with one number, where that is the decision."""
    bigger = _COMPARISONS.get(op)
    if readout.kind != "threshold" or bigger is None:
        return None
    if not all(0.0 <= value < 1.0 for value in readout.threshold):
        return None
    constants = twin.constants()
    for side, (data, other) in zip((bigger, -bigger), (inputs, inputs[::-1]), strict=True):
        number = constants.get(other)
        if data not in constants and number is not None and number.numel() == 1:
            sign, limit = readout.sign * side, (float(number),)
            return replace(readout, tensor=data, sign=sign, threshold=limit)
    return None


def _scaled_by_number(twin: Twin, op: str, inputs: tuple[str, ...]) -> str:
    """Return the operand that a node moves or scales by one number for all classes, or nothing.

    A factor must be positive.
    """
    if op not in ("Mul", "Div", "Add", "Sub"):
        return ""
    constants = twin.constants()
    for carried, other in (inputs, inputs[::-1])[: 2 if op in ("Mul", "Add") else 1]:
        number = constants.get(other)
        if (
            carried not in constants
            and number is not None
            and number.shape in ((), (1,))
            and (op in ("Add", "Sub") or float(number) > 0)
        ):
            return carried
    return ""


def _before_choice(twin: Twin, output: str) -> list[Readout]:
    """Return readouts of what the labels of an output are chosen from."""
    choice = choice_of(twin, output)
    if choice is None or choice.axis == 0:
        return []
    chosen = Readout(choice.scores, "classes", axis=choice.axis, sign=choice.sign)
    return [chosen, *_before(twin, chosen)]


def _before_comparison(twin: Twin, output: str) -> list[Readout]:
    """Return readouts of what a comparison compares, where an output of 0 or 1 holds its result."""
    label = Readout(output, "threshold", threshold=(0.5,))
    # What lies between the comparison and the output has no gradient.
    return [found for found in _before(twin, label) if found.threshold is not label.threshold]


def counted_logits(
    task: Task, readout: Readout, output: Shaped[np.ndarray, "samples ..."], *, double: bool = False
) -> tuple[Float[Tensor, "decisions classes"], Real[Tensor, "decisions"]]:
    """Return the logits of the decisions that are counted, as `decisive` ones, and their labels.

    Args:
        task: Says which decisions are counted.
        readout: How logits are read.
        output: Decision output with scores.
        double: Logits are float64, not float32.
    """
    values = torch.from_numpy(np.ascontiguousarray(output))
    logits = readout.logits(values.double() if double else values.float())
    counted = torch.from_numpy(task.counted.reshape(-1))
    labels = torch.from_numpy(task.labels.reshape(-1))[counted]
    return decisive(logits[counted], labels, k=task.decision.k), labels


def decisive(
    logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"], *, k: int = 1
) -> Float[Tensor, "decisions classes"]:
    """Return logits in which the label is the first highest exactly if it is among the k highest.

    All finite where there is a decision.

    As `data.class_logits.decisive_logits`; scores that are put below all others have no gradient,
    so infinities cannot become NaN in it.

    Args:
        logits: Scores, the highest best, [decisions, classes].
        labels: The class of every decision, int64 [decisions].
        k: How many decisions there may be before the label.
    """
    own, held = labels[:, None], logits.detach()
    masked = torch.isneginf(held)
    if k > 1:
        ahead = held.scatter(1, own, -torch.inf).argsort(dim=1, descending=True, stable=True)[
            :, : k - 1
        ]
        masked = masked.scatter(1, ahead, True)
    elif logits.device.type == "cpu" and not bool(masked.any()):
        return logits  # elsewhere to ask costs more than to go on, which changes nothing
    finite = torch.isfinite(held)
    low = held.masked_fill(~finite, torch.inf).amin(1, keepdim=True)
    high = held.masked_fill(~finite, -torch.inf).amax(1, keepdim=True)
    step = torch.maximum(high - low, torch.maximum(low.abs(), high.abs())).clamp(min=1.0)
    is_own = torch.zeros_like(masked).scatter(1, own, True)
    floor = torch.where(is_own, low - 2.0 * step, low - step)
    made = torch.where(torch.where(is_own, torch.isneginf(held), masked), floor, logits)
    return torch.where(torch.isfinite(held.amax(1, keepdim=True)), made, torch.nan)


def decide(logits: Float[np.ndarray, "decisions classes"]) -> Int64[np.ndarray, "decisions"]:
    """Return the decisions that logits stand for, int64 [decisions].

    `NO_DECISION` where a score is NaN or +infinity, or none is finite.
    """
    return np.where(have_decision(logits), logits.argmax(axis=1), NO_DECISION).astype(np.int64)
