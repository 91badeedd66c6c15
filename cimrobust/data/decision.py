"""How an output becomes a decision, how labels are coded, and decisions a score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: In place of a decision where the output has none: NaN, infinite, or no known class.
NO_DECISION = -1
#: In place of a label that is not counted. No decision equals it.
IGNORED = -2

LabelValue = int | str
#: How a decision is read from an output.
Read = Literal["argmax", "argmin", "topk", "threshold", "label", "value"]


@dataclass(frozen=True)
class Score:
    """A score over a set of samples.

    Attributes:
        value: Fraction of right decisions, or the metric's value in its own unit.
        count: Number of right decisions; None for regression.
        num_samples: Decisions scored.
    """

    value: float
    count: int | None
    num_samples: int


@dataclass(frozen=True)
class Decision:
    """How a decision is read from an output.

    Attributes:
        output: Name of the graph output; None: the first, or the scores beside it where the first
            holds labels.
        read: ``argmax``, ``argmin``, ``topk``, ``threshold``, ``label`` or ``value``.
        metric: ``accuracy``, ``rmse``, ``mae``, ``mse`` or ``max_error``.
        threshold: For ``threshold``: the decision is 1 where the output is greater; one number, or
            one for each entry of the axis.
        axis: Class axis of the output (``threshold`` with a list: that of the numbers), the sample
            axis counted; None: found from shapes.
        k: For ``topk``: a decision is right where the label is among the k highest scores.
    """

    output: str | None = None
    read: str = "argmax"
    metric: str = "accuracy"
    threshold: float | tuple[float, ...] | None = None
    axis: int | None = None
    k: int = 1

    @property
    def chooses(self) -> bool:
        """Whether one class of several is chosen by its score."""
        return self.read in ("argmax", "argmin", "topk")


@dataclass(frozen=True)
class LabelReading:
    """How labels are coded.

    Attributes:
        kind: ``given``: one label a decision, or one-hot rows; ``stored``: outputs that somebody
            stored, of which the decisions are the labels; ``indices``:
            classes by their index, `IGNORED` among them.
        classes: Label of every class in the order of the network's scores; None: numbers that count
            from `first`.
        first: Label of the first class; None: 0, unless the outputs speak for 1.
        ignore: Labels that are not counted.
        folders: Names of the sub-folders that images came from, in the order of their labels;
            empty: they came from somewhere else.
    """

    kind: Literal["given", "stored", "indices"] = "given"
    classes: tuple[LabelValue, ...] | None = None
    first: int | None = None
    ignore: tuple[int, ...] = ()
    folders: tuple[str, ...] = ()
