"""How an output becomes a decision, and decisions a score."""

from __future__ import annotations

from dataclasses import dataclass


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
        output: Name of the graph output; None: the first.
        read: ``argmax``, ``argmin``, ``threshold``, ``label`` or ``value``.
        metric: ``accuracy``, ``rmse``, ``mae``, ``mse`` or ``max_error``.
        threshold: For ``threshold``: the decision is 1 where the output is greater than this.
        axis: Class axis of the output, the sample axis counted; None: found from the shapes of output and labels.
    """

    output: str | None = None
    read: str = "argmax"
    metric: str = "accuracy"
    threshold: float | None = None
    axis: int | None = None
