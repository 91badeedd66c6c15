"""The scores that the labels of an output are chosen by, inside a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.twin.twin_module import Twin

# What may stand behind a choice: the shape changes alone, or the type of whole numbers.
_SAME_NUMBERS = frozenset(
    {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Dropout"}
)


@dataclass(frozen=True)
class Choice:
    """Labels as indices of the highest or lowest scores.

    Attributes:
        scores: Name of the scores.
        axis: Axis of the classes, as the node states it, the sample axis counted.
        sign: -1 where the lowest score is chosen.
        is_cast: The indices are held in another type than int64 behind it.
    """

    scores: str
    axis: int
    sign: float
    is_cast: bool


def choice_of(twin: Twin, output: str) -> Choice | None:
    """Return the choice that an output holds the labels of; None: it is no such output.

    ArgMax, ArgMin, and TopK of one.
    """
    name, node, is_cast = output, twin.node_of(output), False
    while node is not None and node.op in _SAME_NUMBERS and node.inputs:
        is_cast = is_cast or node.op == "Cast"
        name = node.inputs[0]
        node = twin.node_of(name)
    if node is None:
        return None
    if node.op in ("ArgMax", "ArgMin"):
        sign = -1.0 if node.op == "ArgMin" else 1.0
        return Choice(node.inputs[0], int(node.get("axis", 0)), sign, is_cast)
    if node.op != "TopK" or list(node.outputs).index(name) != 1:
        return None
    count = twin.constants().get(node.inputs[1]) if len(node.inputs) > 1 else None
    if (int(node.get("k", 0)) if count is None else int(count)) != 1:
        return None
    sign = 1.0 if node.get("largest", 1) else -1.0
    return Choice(node.inputs[0], int(node.get("axis", -1)), sign, is_cast)
