"""Along which axis of an output the classes lie.

Where two axes fit, the description has to say which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.labels import one_hot_axes
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.decision import Decision


@dataclass(frozen=True)
class AxisHint:
    """What the graph itself says about the class axis of an output.

    Attributes:
        axis: The axis, that of the samples counted.
        reason: Which operator shows it, for a sentence.
    """

    axis: int
    reason: str


def possible_axes(decision: Decision, shape: Sequence[int]) -> list[int]:
    """Return the axes of an output that may hold the classes.

    The one that the description names, else all that are longer than 1.

    Raises:
        UsageError: There is no such axis.
    """
    if len(shape) < 2:
        raise UsageError(
            f"{decision.read} needs an axis of classes, got an output of shape {list(shape)}; use"
            ' read = "threshold", "label" or "value"'
        )
    if decision.axis is not None:
        axis = decision.axis + len(shape) if decision.axis < 0 else decision.axis
        if not 1 <= axis < len(shape):
            raise UsageError(
                f"class axis must be in 1..{len(shape) - 1}, got {decision.axis} ([decision] axis);"
                " count the sample axis as 0"
            )
        return [axis]
    return [axis for axis in range(1, len(shape)) if shape[axis] > 1] or [len(shape) - 1]


def sole_axis(axes: Sequence[int], shape: Sequence[int], hint: AxisHint | None) -> int:
    """Return the class axis where labels say nothing about it.

    Args:
        axes: From `possible_axes`.
        shape: Shape of the output.
        hint: What the graph says, where that may decide; None: it may not.

    Raises:
        UsageError: Several axes are possible.
    """
    if len(axes) == 1:
        return axes[0]
    if hint is not None and hint.axis in axes:
        return hint.axis
    raise UsageError(_several(axes, shape, "and the labels do not tell"))


def axis_of_labels(
    axes: Sequence[int], shape: Sequence[int], labels: Shaped[np.ndarray, "samples ..."]
) -> tuple[int, bool]:
    """Return the class axis that labels fit, and whether they are one-hot along it.

    Args:
        axes: From `possible_axes`.
        shape: Shape of the output.
        labels: One label a decision, or one-hot in the shape of the output; axes of length 1 do not
            matter.

    Raises:
        UsageError: They fit along none or several of the axes, or are neither one-hot nor one a
            decision.
    """
    if same_but_ones(labels.shape, shape):
        fits = one_hot_axes(labels.reshape(shape), axes)
        is_one_hot = True
    else:
        fits = [axis for axis in axes if fits_positions(labels.shape, positions(shape, axis))]
        is_one_hot = False
    if not fits:
        expected = " or ".join(
            f"{list(positions(shape, axis))} (classes along axis {axis})" for axis in axes
        )
        raise UsageError(
            f"labels must give one class for each of the decisions, which are {expected}, got shape"
            f" {list(labels.shape)}; check [label] and [decision]"
        )
    if len(fits) > 1:
        raise UsageError(
            _several(fits, shape, f"and labels of shape {list(labels.shape)} fit each")
        )
    return fits[0], is_one_hot


def positions(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Return the shape of the decisions of an output whose classes lie along an axis."""
    return (*shape[:axis], *shape[axis + 1 :])


def fits_positions(labels: Sequence[int], decisions: Sequence[int]) -> bool:
    """Tell whether labels are one for each decision.

    In the same shape but for axes of length 1, or flat, the last axis running fastest.
    """
    return same_but_ones(labels, decisions) or tuple(labels) == (
        decisions[0],
        math.prod(decisions[1:]),
    )


def same_but_ones(first: Sequence[int], second: Sequence[int]) -> bool:
    """Tell whether two shapes of the same samples are the same but for axes of length 1."""
    return [*first[:1], *_long(first[1:])] == [*second[:1], *_long(second[1:])]


def _long(shape: Sequence[int]) -> list[int]:
    return [length for length in shape if length != 1]


def _several(axes: Sequence[int], shape: Sequence[int], why: str) -> str:
    listed = ", ".join(f"axis {axis} ({shape[axis]} classes)" for axis in axes)
    return (
        f"class axis must be known, got an output of shape {list(shape)} that may hold the classes"
        f" along {listed}, {why}; say which: [decision] axis = {axes[-1]} or {axes[0]}"
    )
